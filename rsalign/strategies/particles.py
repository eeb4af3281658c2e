"""Particles: sequential Monte Carlo over segments of an answer (SMC, twisted SMC).

Law      Let w = exp(r / beta), and let Zhat be the mean of the last weights W_i of the N particles
         (times that of all resamplings before; the note ``log_z`` is its logarithm). For every N,
         segmenter, twist, rule of resampling, `ess_threshold` and number of moves
             E[Zhat sum_i W_i f(y_i) / sum_i W_i] = sum_y pi(y) w(y) f(y),
         so that exp(log_z) is an unbiased estimate of Z = E_pi[w]. An answer drawn by weight
         (`ByWeight`) has the law pi w / Z up to an error that vanishes as N grows. For N = 1 it is
         pi.
         What a constraint excludes has w = 0; a prefix that cannot become allowed has weight 0 and
         is drawn no more. If all particles are excluded, the answer is an abstention.
Move     Each open particle draws one segment from pi, and its weight is multiplied by
         psi(longer prefix) / psi(prefix), where psi is the twist and psi(y) = w(y) for complete y.
         If the effective sample size is below ess_threshold N, N particles are drawn by weight,
         complete ones among them, and get the mean weight. Complete ones are not weighed again.
Paper    Del Moral, Doucet and Jasra 2006; twisted SMC for language models: Zhao et al. 2024,
         arXiv:2404.17546; particle filters for inference-time scaling: Puri et al. 2025,
         arXiv:2502.01618.
Departs  Weights are ratios of twists, so that the reward of a prefix is counted once and not in
         every round; complete particles are absorbing; the answer is drawn by weight, not the
         argmax.
Cost     N answers and N rewards for each segment. Copies share their prefix in the prefix cache.
         The particles of a prompt wait for each other in each round; prompts never do.
Streams  what all particles begin with; with `rejuvenate` at the end.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from rsalign.chains.kernel import finite_log_weight
from rsalign.core.capabilities import TraceKind
from rsalign.core.checks import POSITIVE_REWARD, at_least, check_settings, part
from rsalign.core.constraint import Constraint
from rsalign.core.errors import ConfigError
from rsalign.core.protocols import SEGMENTER, Boundary
from rsalign.core.run import Run
from rsalign.core.types import Candidate, Prompt
from rsalign.populations.allowed_tokens import require_tokens_one_by_one
from rsalign.populations.election import elect
from rsalign.populations.growth import Growth
from rsalign.populations.particle import POPULATION_NOTES
from rsalign.populations.particle_filter import ParticleFilter
from rsalign.populations.rejuvenation import Rejuvenation
from rsalign.populations.resampling import RESAMPLING, Resampling, Systematic
from rsalign.populations.twists import TWIST, PartialReward, Target, Twist
from rsalign.selectors.by_weight import ByWeight
from rsalign.selectors.protocol import SELECTOR, Selector


@dataclass(frozen=True, slots=True, kw_only=True)
class Particles:
    """Draws `n` answers segment by segment, and copies the promising ones as they grow.

    If a budget ends the run early, `answer` chooses among the particles that are complete by then,
    by their weights.

    Notes: ``log_z``, ``kl``, ``effective_sample_size``, ``num_rounds``, ``num_resamplings``,
    ``num_excluded``; ``ess_by_round``, ``ancestors`` and ``log_weights`` of all rounds; and those
    of the selector.

    Attributes:
        segmenter: where segments end, such as ``FixedSize(16)``.
        n: number of particles.
        beta: divides the reward, in its units, above 0.
        twist: values prefixes (`rsalign.populations.twists`).
        resample: the rule of resampling (`rsalign.populations.resampling`).
        ess_threshold: the share of `n` below which the effective sample size leads to resampling.
            0: never (importance sampling); 1: whenever the weights differ.
        rejuvenate: number of moves of each open particle in each round
            (`rsalign.populations.rejuvenation`).
        max_tokens: greatest length of the whole answer in tokens, EOS included.
        tokens: a constraint on tokens. Each token is drawn without those that it refuses, and the
            weights are corrected (`rsalign.populations.allowed_tokens`): particles then seldom run
            into a prefix that is excluded, at two draws or more for each token. It is in force by
            itself; ``Constrained(reward, constraint)`` excludes without guiding the draws. None:
            segments are drawn from the policy.
        answer: the selector that chooses the answer. Those that can weigh (`ByWeight`,
            `MajorityVote`, `Hard`) are given each distinct answer with its weight; any other is
            given `n` answers resampled by weight.

    Raises:
        ConfigError: if a setting is out of its range.

    Example:
        >>> from rsalign import Aligner, FixedSize
        >>> from rsalign.testing import ToyPolicy, ToyReward
        >>> strategy = Particles(n=4, segmenter=FixedSize(2), beta=0.5, max_tokens=6)
        >>> with Aligner(ToyPolicy(), ToyReward(), strategy) as aligner:
        ...     [output] = aligner.generate("1 2", use_tqdm=False)
        >>> output.alignment.diagnostics["num_rounds"] <= 3
        True
    """

    segmenter: Boundary
    n: int = 8
    beta: float = 1.0
    twist: Twist = field(default_factory=PartialReward)
    resample: Resampling = field(default_factory=Systematic)
    ess_threshold: float = 0.5
    rejuvenate: int = 0
    max_tokens: int = 256
    tokens: Constraint | None = None
    answer: Selector = field(default_factory=ByWeight)

    trace_kind: ClassVar[TraceKind] = "population"
    note_meanings: ClassVar[dict[str, str]] = POPULATION_NOTES

    def __post_init__(self) -> None:
        check_settings(
            self,
            segmenter=SEGMENTER,
            n=at_least(1),
            beta=POSITIVE_REWARD,
            twist=TWIST,
            resample=RESAMPLING,
            ess_threshold=at_least(0.0, 1.0),
            rejuvenate=at_least(0),
            max_tokens=at_least(1),
            tokens=part("a constraint: an object with `async allows(prompt, response) -> bool`"),
            answer=SELECTOR,
        )
        if self.tokens is not None and self.rejuvenate:
            raise ConfigError(
                f"Particles(tokens=..., rejuvenate={self.rejuvenate}): moves draw from the policy, "
                "which does not know of the tokens that are refused: leave out one of them"
            )

    @property
    def parallel_draws(self) -> int:
        """One for each particle, or the continuations that its twist draws."""
        return self.n * max(1, int(getattr(self.twist, "draws", 1)))

    @property
    def log_weight(self) -> Callable[[Candidate], float]:
        """From a candidate to ln w."""
        beta = self.beta
        return lambda candidate: finite_log_weight(self, candidate.reward / beta)

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Grows the particles to their ends and chooses one of them."""
        growth = Growth(
            segmenter=self.segmenter,
            twist=self.twist,
            target=Target(self.log_weight, self.max_tokens),
            tokens=self.tokens,
        )
        if self.tokens is not None:
            require_tokens_one_by_one(run.policy, self.segmenter)
        is_stuck = run.has_one_answer(f"1 particle was drawn instead of {self.n}")
        population = ParticleFilter(
            prompt=prompt,
            run=run,
            growth=growth,
            n=1 if is_stuck else self.n,
            resample=self.resample,
            ess_threshold=self.ess_threshold,
            rejuvenation=Rejuvenation(growth=growth, moves=self.rejuvenate)
            if self.rejuvenate
            else None,
        )

        async def answer_so_far() -> Candidate | None:
            run.trace.note(**population.notes())
            return await elect(prompt, population.particles, self.answer, self.resample, run)

        run.trace.answer_by(answer_so_far)
        await population.run_rounds()
        chosen = await elect(prompt, population.particles, self.answer, self.resample, run)
        if chosen is None:
            return run.abstain(
                prompt, f"the constraint allows none of the {population.n} particles"
            )
        run.trace.commit(chosen.tokens[len(run.trace.committed) :])
        return chosen

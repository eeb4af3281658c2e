"""ParticleGibbs: a move of a chain that draws a population around the present state.

Law      Keeps pi(y) w(y) / Z invariant for every number of particles >= 2, segmenter, twist and
         `ess_threshold` (conditional SMC). One particle is pinned to the state and goes through its
         segments; the others are drawn from pi, and resampled from all, the pinned one included.
         The next state is drawn by the last weights. With `ancestors` the pinned particle draws,
         whenever the others are resampled, which prefix its remaining segments y'_>t follow: prefix
         x_j with probability in proportion to W_j pi(y'_>t | x_j) w(x_j y'_>t) / psi(x_j).
Paper    Andrieu, Doucet and Holenstein 2010; ancestor choice: Lindsten, Jordan and Schön 2014.
Departs  from published particle Gibbs for language models: the pinned particle has its own weight
         in each round, and not that of the whole answer; weights are ratios; the next state is
         drawn.
Cost     n - 1 answers and n rewards for each segment; with `ancestors` n more rewards and
         likelihoods in each round that resamples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from rsalign.chains.cuts.laws import SegmentCuts
from rsalign.chains.cuts.protocol import cut_weights
from rsalign.chains.kernel import LogWeight, Step
from rsalign.core.checks import above, at_least, check_settings
from rsalign.core.errors import ConfigError
from rsalign.core.overdraw import needs_entropy
from rsalign.core.protocols import (
    SEGMENTER,
    Boundary,
    get_sampling,
    require_likelihood,
)
from rsalign.core.run import Run
from rsalign.core.tasks import concurrently
from rsalign.core.text.response_text import token_text
from rsalign.core.trace import Verdict
from rsalign.core.types import Candidate, Prompt, Stop, Tokens
from rsalign.populations.growth import Growth
from rsalign.populations.particle import Particle, log_mean_exp, normalised, sample_size
from rsalign.populations.twists import TWIST, PartialReward, Target, Twist


@dataclass(frozen=True, slots=True)
class _Path:
    """A complete answer as a sequence of segments."""

    state: Candidate
    ends: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParticleGibbs:
    """A move for ``QAlign(moves=(ParticleGibbs(...),))``, beside redraws of suffixes.

    Attributes:
        segmenter: where segments end, such as ``FixedSize(16)``.
        n: number of particles, the pinned one included.
        share: the probability that a step of the chain is this move.
        twist: values prefixes, given ln w of the chain (`rsalign.populations.twists`).
        ess_threshold: the share of `n` below which the effective sample size leads to resampling.
        ancestors: whether the pinned particle may exchange its prefix. The policy must tell
            likelihoods, and neither the segmenter nor another part of the chain may read entropies.

    Raises:
        ConfigError: if a setting is out of its range, or `ancestors` does not fit the segmenter.

    Example:
        >>> from rsalign import Aligner, FixedSize, QAlign
        >>> from rsalign.testing import ToyPolicy, ToyReward
        >>> gibbs = ParticleGibbs(n=3, segmenter=FixedSize(2), share=0.5)
        >>> strategy = QAlign(steps=8, beta=0.5, max_tokens=6, moves=(gibbs,))
        >>> with Aligner(ToyPolicy(), ToyReward(), strategy) as aligner:
        ...     [output] = aligner.generate("1 2", use_tqdm=False)
        >>> output.alignment.diagnostics["num_steps"]
        8
    """

    segmenter: Boundary
    n: int = 4
    share: float = 0.25
    twist: Twist = field(default_factory=PartialReward)
    ess_threshold: float = 0.5
    ancestors: bool = False

    def __post_init__(self) -> None:
        check_settings(
            self,
            segmenter=SEGMENTER,
            n=at_least(2, note="one of them is the present state"),
            share=above(0.0, 1.0),
            twist=TWIST,
            ess_threshold=at_least(0.0, 1.0),
        )
        if self.ancestors and needs_entropy(self.segmenter):
            raise ConfigError(
                f"ParticleGibbs(ancestors=True, segmenter={self.segmenter!r}): after another "
                "prefix the entropies, and so the segments, would be others: take FixedSize, or "
                "Punctuation(min_entropy=0)"
            )

    @property
    def needs_entropy(self) -> bool:
        """Whether the segments of a state can only be found by its entropies."""
        return needs_entropy(self.segmenter)

    @property
    def drops_entropy(self) -> bool:
        """With `ancestors`: the entropies after another prefix are not measured."""
        return self.ancestors

    @property
    def parallel_draws(self) -> int:
        """One for each particle but the pinned one, or those of its twist."""
        return self.n * max(1, int(getattr(self.twist, "draws", 1)))

    async def step(
        self, prompt: Prompt, state: Candidate, log_weight: LogWeight, run: Run, *, max_tokens: int
    ) -> Step:
        """Draws the population and the next state (`rsalign.chains.moves.Move`)."""
        growth = Growth(
            segmenter=self.segmenter,
            twist=self.twist,
            target=Target(log_weight, max_tokens),
            measured=state.response.certainty is not None,
        )
        path = _Path(state, self._ends(prompt, state, run, max_tokens))
        particles = [Particle()] * self.n
        number = 0
        while any(particle.is_open for particle in particles):
            here = run.at("round", number)
            particles = await self._grown(prompt, particles, path, growth, here)
            logs = [particle.log_weight for particle in particles]
            weights = normalised(logs)
            is_open = any(particle.is_open for particle in particles)
            if is_open and 0 < sample_size(weights) < self.ess_threshold * self.n:
                pinned = 0
                if self.ancestors and particles[0].is_open:
                    pinned, path = await self._exchange(prompt, particles, path, growth, here)
                places = [pinned] + [
                    here.key.child("resample", k).categorical(weights) for k in range(1, self.n)
                ]
                particles = _resampled(particles, places)
            number += 1
        return _choose(state, particles, run)

    def _ends(self, prompt: Prompt, state: Candidate, run: Run, max_tokens: int) -> tuple[int, ...]:
        """Where the segments of a state end."""
        starts = cut_weights(
            SegmentCuts(segmenter=_Known(self.segmenter)),
            prompt,
            state.response,
            max_tokens=max_tokens,
            decode=partial(_token_text, run),
        ).values
        return (*(i for i, weight in enumerate(starts) if weight and i), len(state.tokens))

    async def _grown(
        self,
        prompt: Prompt,
        particles: Sequence[Particle],
        path: _Path,
        growth: Growth,
        here: Run,
    ) -> list[Particle]:
        async def grow(i: int, particle: Particle) -> Particle:
            if not particle.is_open:
                return particle
            run = here.at("particle", i)
            if i:
                return await growth.extend(prompt, particle, run)
            candidate = await _prefix(prompt, path, len(particle.ends), run)
            return particle.extended(candidate, await growth.log_twist(prompt, candidate, run))

        return await concurrently(grow(i, particle) for i, particle in enumerate(particles))

    async def _exchange(
        self,
        prompt: Prompt,
        particles: Sequence[Particle],
        path: _Path,
        growth: Growth,
        here: Run,
    ) -> tuple[int, _Path]:
        """Draws which prefix the rest of the pinned path follows; returns it and the path."""
        likelihood = require_likelihood(here.policy)
        if get_sampling(here.policy).stop:
            raise ConfigError(
                "ParticleGibbs(ancestors=True) does not work with stop strings, which may begin in "
                "one prefix and end in the rest of another answer: leave one of them out"
            )
        pinned = particles[0]
        rest = path.state.tokens[len(pinned.tokens) :]
        ends = [end - len(pinned.tokens) for end in path.ends[len(pinned.ends) :]]

        async def join(j: int) -> tuple[float, Candidate]:
            particle = particles[j]
            tokens = particle.tokens + rest
            if j == 0:
                joined = path.state
            else:
                before = particle.candidate.response.log_probs if particle.candidate else ()
                log_probs = await likelihood.log_probs(prompt.tokens + particle.tokens, rest)
                joined = await here.at("ancestor", j).judge(
                    prompt,
                    tokens,
                    path.state.response.stop,
                    stop_reason=path.state.response.stop_reason,
                    log_probs=None if before is None else before + log_probs,
                )
            log_rest = math.fsum(
                await likelihood.log_probs(prompt.tokens + particle.tokens, rest)
                if j == 0
                else log_probs
            )
            log_worth = (
                particle.log_weight
                + log_rest
                + growth.target.log_weight(joined)
                - particle.log_twist
            )
            return log_worth, joined

        places = [
            j
            for j, particle in enumerate(particles)
            if particle.is_open and self._fits(path.state, particle.tokens, rest, growth)
        ]
        joined = await concurrently(join(j) for j in places)
        probs = normalised([log_worth for log_worth, _ in joined])
        if not any(probs):  # the state is excluded, and so it is after every other prefix
            return 0, path
        chosen = here.key.child("ancestor").categorical(probs)
        j = places[chosen]
        longer = tuple(len(particles[j].tokens) + end for end in ends)
        return j, _Path(joined[chosen][1], particles[j].ends + longer)

    def _fits(self, state: Candidate, prefix: Tokens, rest: Tokens, growth: Growth) -> bool:
        """Whether the rest of a state ends for the same reason after this prefix."""
        most, length = growth.target.max_tokens, len(prefix) + len(rest)
        return length == most if state.response.stop is Stop.LENGTH else length <= most


@dataclass(frozen=True, slots=True)
class _Known:
    """The same rule; it asks for entropies only if it reads them."""

    rule: Boundary

    @property
    def max_tokens(self) -> int:
        return self.rule.max_tokens

    @property
    def engine_arguments(self) -> dict[str, int | float | str]:
        return dict(self.rule.engine_arguments) if needs_entropy(self.rule) else {}

    def ends_before(self, num_drawn: int, entropy: float) -> bool:
        return self.rule.ends_before(num_drawn, entropy)

    def ends_after(self, num_drawn: int, entropy: float, text: str) -> bool:
        return self.rule.ends_after(num_drawn, entropy, text)


def _resampled(particles: Sequence[Particle], places: Sequence[int]) -> list[Particle]:
    """Copies particles, which then have the mean weight; an excluded state stays excluded."""
    mean = log_mean_exp([particle.log_weight for particle in particles])
    return [
        particles[i]
        if particles[i].log_weight == -math.inf
        else replace(particles[i], log_weight=mean).without_beyond()
        for i in places
    ]


def _token_text(run: Run, tokens: Tokens) -> str:
    return token_text(run.policy, *tokens)


async def _prefix(prompt: Prompt, path: _Path, number: int, run: Run) -> Candidate:
    """The first ``number + 1`` segments of a path, judged."""
    end, response = path.ends[number], path.state.response
    if end == len(response.tokens):
        return path.state
    log_probs, certainty = response.log_probs, response.certainty
    return await run.judge(
        prompt,
        response.tokens[:end],
        Stop.BOUNDARY,
        log_probs=None if log_probs is None else log_probs[:end],
        certainty=None if certainty is None else certainty.upto(end),
    )


def _choose(state: Candidate, particles: Sequence[Particle], run: Run) -> Step:
    """Draws the next state by weight, and records what was considered."""
    weights = normalised([particle.log_weight for particle in particles])
    considered, probs = [state], [0.0]
    for particle, weight in zip(particles, weights, strict=True):
        if particle.candidate is state:  # the pinned particle, or a copy of it
            probs[0] += weight
        elif particle.candidate is not None and particle.is_complete:
            considered.append(particle.candidate)
            probs.append(weight)
    if not any(probs):  # the state is excluded, and nothing else was found
        probs[0] = 1.0
    chosen = run.key.child("accept").categorical(probs)
    for i, (candidate, prob) in enumerate(zip(considered, probs, strict=True)):
        if i:
            verdict = Verdict.ACCEPTED if i == chosen else Verdict.REJECTED
            run.record_proposal(
                candidate,
                verdict=verdict,
                prob=prob,
                state=state,
                address=candidate.response.address,
            )
    return Step(
        state=considered[chosen],
        cut=None,
        length=len(state.tokens),
        considered=tuple(considered),
        probs=tuple(probs),
        moved=chosen > 0,
    )


MOVES = {"particle_gibbs": ParticleGibbs}
"""Moves by their names in settings; any other class is named as ``module:Class``."""

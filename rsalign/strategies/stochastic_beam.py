"""StochasticBeam: beams that are drawn without replacement, with exact inclusion probabilities.

Law      At each token every open prefix is extended by each of its `alternatives` most probable
         tokens. Of all these prefixes and the complete answers so far, `width` different ones are
         drawn by conditional Poisson sampling with weights p(prefix)
         (`rsalign.populations.conditional_poisson`), and an answer collects the probability pi_t
         with which the design drew it, given the prefixes before. The weight of a complete answer y
         is p(y) / prod_t pi_t: for every f,
             E[sum_i weight_i f(y_i)] = E_p[f],
         exactly, for every width (Horvitz-Thompson). p is the model's own law (temperature 1) on
         the `alternatives` most probable tokens at each place (as top_k). A selector that weighs is
         given the weights, normalised; so for `ByWeight` the answer tends to p as the width grows.
Paper    conditional Poisson stochastic beams: Meister et al. 2021, arXiv:2109.11034.
Departs  The published code first cuts the candidates to a nucleus, so that its inclusion
         probabilities are of another law, and then keeps the most probable of twice as many
         candidates. Here the set is that of the design, and so are the probabilities.
Cost     a request of one token for each open prefix and token, all prefixes at once; a reward for
         each complete answer.
Streams  what all prefixes begin with.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar

from rsalign.core.capabilities import TraceKind, needs_reward
from rsalign.core.checks import at_least, check_settings
from rsalign.core.most_probable import GreedySegment, require_listing
from rsalign.core.protocols import get_sampling
from rsalign.core.run import Run
from rsalign.core.tasks import concurrently
from rsalign.core.text.response_text import response_text
from rsalign.core.types import Candidate, Prompt, Stop, Tokens
from rsalign.populations.conditional_poisson import draw_without_replacement
from rsalign.populations.particle import commit_shared
from rsalign.selectors.by_weight import ByWeight
from rsalign.selectors.protocol import SELECTOR, Selector
from rsalign.strategies.pool import require_no_certainty
from rsalign.strategies.weighed_pool import choose_weighed


@dataclass(frozen=True, slots=True, kw_only=True)
class StochasticBeam:
    """Draws `width` different answers token by token, with weights that make sums unbiased.

    The policy must be able to list its most probable tokens: `VllmPolicy`.

    Notes: ``weights`` (of the allowed answers: not normalised, so that their sum has the mean 1),
    ``inclusions``, the product of the inclusion probabilities of each, ``rewards``, and those of
    the selector.

    Attributes:
        width: number of prefixes that go on, and of answers.
        select: the selector that chooses among the answers.
        alternatives: tokens at each place; p is the law on them. vLLM lists 20 at most unless it is
            started with another ``max_logprobs``.
        max_tokens: greatest length of a response in tokens, EOS included.

    Raises:
        ConfigError: if a number is out of its range, or `select` needs certainties; in `sample`, if
            the policy cannot list its most probable tokens.

    Example:
        >>> from rsalign import Aligner
        >>> from rsalign.testing import ToyPolicy, ToyReward
        >>> strategy = StochasticBeam(width=2, max_tokens=4)
        >>> with Aligner(ToyPolicy(), ToyReward(), strategy) as aligner:
        ...     [output] = aligner.generate("1 2", use_tqdm=False)
        >>> all(0 < p <= 1 for p in output.alignment.diagnostics["inclusions"])
        True
    """

    width: int = 4
    select: Selector = field(default_factory=ByWeight)
    alternatives: int = 20
    max_tokens: int = 256

    trace_kind: ClassVar[TraceKind] = "pool"
    note_meanings: ClassVar[dict[str, str]] = {
        "weights": "of the allowed answers; weighted sums are unbiased",
        "inclusions": "probability with which the design drew each of them",
    }

    def __post_init__(self) -> None:
        check_settings(
            self,
            width=at_least(1),
            select=SELECTOR,
            alternatives=at_least(1),
            max_tokens=at_least(1),
        )
        require_no_certainty(self, self.select)

    @property
    def needs_reward(self) -> bool:
        """Whether the selector does."""
        return needs_reward(self.select)

    @property
    def parallel_draws(self) -> int:
        """The prefixes of one token."""
        return self.width

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Draws token by token until all prefixes are complete, and chooses one."""
        beams = [_Beam()]
        step = 0
        while any(beam.stop is None for beam in beams):
            longer = await self._extend(prompt, beams, run)
            drawn = draw_without_replacement(
                [beam.log_prob for beam in longer], self.width, run.key.child("step", step)
            )
            beams = [longer[one.index].included(one.prob) for one in drawn]
            commit_shared([beam.tokens for beam in beams], run.trace)
            step += 1
        judged = await concurrently(
            run.at("answer", i).judge(
                prompt,
                beam.tokens,
                beam.stop,
                log_probs=beam.log_probs,
                stop_reason=beam.stop_reason,
            )
            for i, beam in enumerate(beams)
        )
        weights = [math.exp(beam.log_prob - beam.log_inclusion) for beam in beams]
        allowed = [i for i, one in enumerate(judged) if not one.excluded]
        run.trace.note(inclusions=tuple(math.exp(beams[i].log_inclusion) for i in allowed))
        chosen = await choose_weighed(prompt, judged, weights, self.select, run)
        if chosen is None:
            return run.abstain(prompt, f"of {len(judged)} answers drawn none is allowed")
        run.trace.commit(chosen.tokens[len(run.trace.committed) :])
        return chosen

    async def _extend(self, prompt: Prompt, beams: list["_Beam"], run: Run) -> list["_Beam"]:
        """All prefixes with each of their next tokens, and the complete answers."""
        listing = require_listing(run.policy)

        async def list_next(beam: _Beam) -> GreedySegment | None:
            if beam.stop is not None:
                return None
            prefix = prompt.tokens + beam.tokens
            return await listing.most_probable(prefix, max_new_tokens=1, num=self.alternatives)

        found: list[_Beam] = []
        listed = await concurrently(map(list_next, beams))
        for beam, drawn in zip(beams, listed, strict=True):
            if drawn is None:
                found.append(beam)
                continue
            places = drawn.listed[0]
            log_total = math.log(math.fsum(math.exp(log_prob) for _, log_prob in places))
            for token, log_prob in places:
                grown = beam.extended(token, min(0.0, log_prob - log_total))
                found.append(self._ended(prompt, grown, drawn.eos, run))
        return found

    def _ended(self, prompt: Prompt, beam: "_Beam", eos: Tokens, run: Run) -> "_Beam":
        """The prefix, with the reason why it is complete, if it is."""
        law, token = get_sampling(run.policy), beam.tokens[-1]
        if token in law.stop_token_ids:
            return beam.ended(Stop.STOP, token)
        if token in eos:
            return beam.ended(Stop.EOS)
        if law.stop:
            text = response_text(run.policy, prompt.tokens, beam.tokens)
            if (stop := law.first_stop(text)) is not None:
                return beam.ended(Stop.STOP, stop)
        return beam.ended(Stop.LENGTH) if len(beam.tokens) == self.max_tokens else beam


@dataclass(frozen=True, slots=True)
class _Beam:
    """A prefix.

    Attributes:
        tokens: so far.
        log_probs: of its tokens under the law on the alternatives, nats.
        log_inclusion: ln of the product of its inclusion probabilities.
        stop: why it is complete; None if it is open.
        stop_reason: see `Response`.
    """

    tokens: Tokens = ()
    log_probs: tuple[float, ...] = ()
    log_inclusion: float = 0.0
    stop: Stop | None = None
    stop_reason: int | str | None = None

    @property
    def log_prob(self) -> float:
        """Of the prefix, nats."""
        return math.fsum(self.log_probs)

    def extended(self, token: int, log_prob: float) -> "_Beam":
        return _Beam((*self.tokens, token), (*self.log_probs, log_prob), self.log_inclusion)

    def included(self, prob: float) -> "_Beam":
        log_inclusion = self.log_inclusion + math.log(prob)
        return _Beam(self.tokens, self.log_probs, log_inclusion, self.stop, self.stop_reason)

    def ended(self, stop: Stop, reason: int | str | None = None) -> "_Beam":
        return _Beam(self.tokens, self.log_probs, self.log_inclusion, stop, reason)

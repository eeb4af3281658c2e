"""DeepConf: a vote among the answers that the policy never doubted, which ends the others early.

Law      `warm_up` answers are drawn from pi in full. The least confidence of an answer is the least
         running mean of minus the entropies of its tokens (`rsalign.LowConfidence`), from token
         `window` on; an answer that ends before has none, and always stays. The threshold is the
         greatest value that at least a share `keep` of the warm-up that has one reaches. The other
         n - warm_up answers are drawn from pi, and each ends where its mean falls below the
         threshold. `select` chooses among all answers, of the warm-up and later, whose confidence
         was never below the threshold: given the threshold the later ones are draws of pi on
         condition of that, and their number is binomial.
         With ``warm_up = n`` nothing ends early (the published method's offline form).
Paper    Deep Think with Confidence: Fu et al. 2025, arXiv:2508.15260.
Departs  Confidence is minus the entropy of the model's law (there, the mean negative
         log-probability of 20 listed tokens), and its mean is exponential. The engine itself ends
         an answer, at the very token. Every warm-up draw that reaches the threshold votes.
Cost     less than n answers; the warm-up is measured.
Streams  at the end: any answer may win until all are drawn.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from rsalign.core.capabilities import TraceKind, needs_certainty, needs_reward
from rsalign.core.checks import above, at_least, check_settings, quote, setting_error
from rsalign.core.errors import ConfigError
from rsalign.core.run import Run
from rsalign.core.segment_ends import EndsSegments
from rsalign.core.tasks import concurrently
from rsalign.core.types import Candidate, Certainty, Prompt, Response, Stop
from rsalign.segments.segmenters import MOST, LowConfidence, running_mean
from rsalign.selectors.protocol import SELECTOR, Selector
from rsalign.strategies.plain import Plain
from rsalign.strategies.pool import POOL_NOTES, Pool
from rsalign.strategies.unjudged import without_reward


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepConf:
    """Votes among answers of which the policy was confident throughout; doubtful ones end early.

    The policy must be able to measure certainty (`rsalign.Measuring`) and to end segments by
    confidence: `VllmPolicy` with an engine that rsalign starts.

    Notes: ``threshold``, nats (None: the whole warm-up was shorter than `window`); ``num_cut``,
    answers that ended early or were left out; and those of `BestOf`.

    Attributes:
        select: the selector that chooses among the confident answers, such as `MajorityVote`.
        n: number of draws.
        warm_up: number of draws from which the threshold comes, at most `n`.
        keep: share of the warm-up that is confident enough, above 0 and at most 1.
        window: tokens that the mean confidence is over.
        max_tokens: greatest length of a response in tokens, EOS included.

    Raises:
        ConfigError: if a number is out of its range, or `select` needs certainties; in `sample`, if
            the policy cannot measure.

    Example:
        >>> from rsalign import Aligner, LastNumber, MajorityVote
        >>> from rsalign.testing import ToyPolicy
        >>> strategy = DeepConf(select=MajorityVote(extract=LastNumber()), n=8, window=2)
        >>> with Aligner(ToyPolicy(), None, strategy) as aligner:
        ...     [output] = aligner.generate("1 2", use_tqdm=False)
        >>> 0 <= output.alignment.diagnostics["num_cut"] < 8
        True
    """

    select: Selector
    n: int = 16
    warm_up: int = 4
    keep: float = 0.5
    window: int = 32
    max_tokens: int = 256

    varies_by_policy_alone: ClassVar[bool] = True
    cuts_answers: ClassVar[bool] = False
    trace_kind: ClassVar[TraceKind] = "pool"
    note_meanings: ClassVar[dict[str, str]] = POOL_NOTES | {
        "threshold": "mean confidence below which answers ended, nats",
        "num_cut": "answers that ended early or were left out",
    }

    def __post_init__(self) -> None:
        check_settings(
            self,
            select=SELECTOR,
            n=at_least(1),
            warm_up=at_least(1),
            keep=above(0.0, 1.0),
            window=at_least(1, MOST),
            max_tokens=at_least(1),
        )
        if self.warm_up > self.n:
            raise setting_error(self, "warm_up", f"a whole number of at most n={self.n}")
        if needs_certainty(self.select):
            raise ConfigError(
                f"DeepConf(select={quote(self.select)}): only the warm-up is measured: give a "
                "selector that does not need certainties, or BestOf"
            )

    @property
    def needs_reward(self) -> bool:
        """Whether the selector does."""
        return needs_reward(self.select)

    @property
    def parallel_draws(self) -> int:
        """The warm-up, or the draws after it."""
        return max(self.warm_up, self.n - self.warm_up)

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Draws the warm-up, then the rest, and returns the answer that is chosen."""
        key = run.key.child("select")
        pool = Pool(prompt, run, Plain(), self.select, select_key=lambda _: key)
        num = pool.distinct(self.n)
        if num > self.warm_up and isinstance(run.policy, EndsSegments):  # before anything is drawn
            run.policy.check_boundary(LowConfidence(window=self.window))
        warm_up = min(self.warm_up, num)
        first = await concurrently(self._measured(prompt, run, i) for i in range(warm_up))
        least = [least_confidence(one.response, self.window) for one in first]
        known = sorted((one for one in least if one < math.inf), reverse=True)
        threshold = -math.inf
        if known:
            threshold = known[math.ceil(self.keep * len(known) - 1e-9) - 1]
        kept = [i for i in range(warm_up) if least[i] >= threshold]
        for i in kept:
            pool.add(i, first[i])

        async def draw(i: int) -> None:
            found = await self._cut_below(prompt, run.at("candidate", i), threshold)
            if found is not None:
                pool.add(i, found)
                kept.append(i)

        await concurrently(draw(i) for i in range(warm_up, num))
        run.trace.note(threshold=threshold if known else None, num_cut=num - len(kept))
        return pool.answer(await pool.choose())

    async def _measured(self, prompt: Prompt, run: Run, number: int) -> Candidate:
        here = run.at("candidate", number)
        return await here.draft(prompt, (), max_tokens=self.max_tokens, kept_certainty=Certainty())

    async def _cut_below(self, prompt: Prompt, run: Run, threshold: float) -> Candidate | None:
        """Draws an answer; None if its confidence fell below the threshold."""
        rule = None
        if threshold > -math.inf:
            rule = LowConfidence(window=self.window, below=min(0.0, threshold))
        draft = await without_reward(run).draft(
            prompt, (), max_tokens=self.max_tokens, boundary=rule
        )
        response = draft.response
        if response.stop is Stop.BOUNDARY:
            return None
        return await run.judge(
            prompt,
            response.tokens,
            response.stop,
            log_probs=response.log_probs,
            stop_reason=response.stop_reason,
        )


def least_confidence(response: Response, window: int) -> float:
    """The least running mean confidence of a measured response, nats; infinity if it is short.

    The confidence after the last token ends no answer and does not count.

    Example:
        >>> from rsalign import Response, Stop
        >>> sure = Response((1, 2, 0), "", Stop.EOS, certainty=Certainty((0.5, 1.5, 0.1)))
        >>> least_confidence(sure, window=2)
        -1.0
    """
    assert response.certainty is not None  # it was asked for
    mean, least = 0.0, math.inf
    for num, entropy in enumerate(response.certainty.entropies, 1):
        mean = running_mean(mean, entropy, num, window)
        if window <= num < len(response.tokens):
            least = min(least, -mean)
    return least

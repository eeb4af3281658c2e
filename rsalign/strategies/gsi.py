"""Gsi: guided speculative inference; segments of a draft, weighed towards the tilted policy.

Law      Let y be the tokens kept so far, q(s) and p(s) the probabilities that the draft and the
         policy write the segment s after y and end it there, r(s) the reward of y + s, and
         v(s) = r(s) + beta ln(p(s) / q(s)). Of n segments s_1 .. s_n of q, one is chosen with
         probability in proportion to exp(v(s_i) / beta) = w(s_i) p(s_i) / q(s_i), where
         w = exp(r / beta), and accepted with probability a(v). If it is rejected, n segments are
         drawn from p, and one is chosen in proportion to w.
         As n grows, both choices have the law p w / Z(y) within the segment, if q can write
         whatever p can. Z(y) is not corrected for, as in `Cards`.
         What a constraint excludes has weight 0; if all n of p are excluded, the answer is an
         abstention.
Accept   a rule of `rsalign.segments.acceptance` for v, in the reward's units, against a threshold:
         `HardAcceptance` with ``Constant(value=u)`` is the paper's.
Paper    GSI, Geuter et al. 2025, arXiv:2506.04118 (its beta is 1 / beta here).
Departs  p and q are the laws that the segments were really drawn from, with temperature and
         truncation. The published code weighs drafts, drawn at temperature 0.7, by probabilities
         at temperature 1, decodes and encodes again, and ends early where all rewards are low.
Cost     n segments of the draft, each scored by one request to the policy; n of the policy if the
         chosen one is rejected; a reward for each.
Streams  each segment as soon as it is taken.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from rsalign.core.capabilities import TraceKind
from rsalign.core.checks import POSITIVE_REWARD, at_least, check_settings
from rsalign.core.protocols import SEGMENTER, Boundary
from rsalign.core.run import Run
from rsalign.core.tasks import concurrently
from rsalign.core.trace import Verdict
from rsalign.core.types import Candidate, Prompt, Response
from rsalign.drafting.pair import NEEDS_DRAFT, Pair, log_ratio, require_same_ends
from rsalign.drafting.segments import SEGMENT_NOTES, Tally, draw_segment, write_segments
from rsalign.segments.acceptance import ACCEPTANCE, Acceptance, HardAcceptance
from rsalign.segments.bar import Bar, missing_threshold
from rsalign.segments.conformal import calibrate
from rsalign.segments.thresholds import THRESHOLD, Threshold
from rsalign.selectors.estimators import tilted_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Gsi:
    """Writes segments by the part ``draft`` of the run, chosen towards pi(y) exp(r(y) / beta).

    Notes: ``num_segments``, ``num_drafts`` (choices that were tested), ``num_accepted``,
    ``num_forced``, ``acceptance_rate``; ``prompt_reward`` if the threshold needs it.

    Attributes:
        segmenter: where segments end, such as ``FixedSize(16)``; it must not read entropies.
        n: number of segments drawn at once.
        beta: divides the reward, in its units, above 0.
        threshold: what v is held to, in the reward's units; None only with an acceptance that
            needs none.
        acceptance: the probability of accepting the chosen draft, given v and the threshold.
        max_tokens: greatest length of the whole answer in tokens, EOS included.

    Raises:
        ConfigError: if a setting is out of its range; while running, if the draft does not fit the
            policy, or the policy cannot score given tokens.

    Example:
        >>> from rsalign import Aligner, Constant, FixedSize
        >>> from rsalign.testing import ToyPolicy, ToyReward
        >>> strategy = Gsi(
        ...     segmenter=FixedSize(2), n=3, beta=0.5, threshold=Constant(value=0.5), max_tokens=6
        ... )
        >>> with Aligner(
        ...     ToyPolicy(), ToyReward(), strategy, parts={"draft": ToyPolicy(salt=1)}
        ... ) as aligner:
        ...     [output] = aligner.generate("1 2", use_tqdm=False)
        >>> output.alignment.usage.parts["draft"].policy_requests >= 3
        True
    """

    needs: ClassVar[Mapping[str, Any]] = NEEDS_DRAFT
    trace_kind: ClassVar[TraceKind] = "segments"
    note_meanings: ClassVar[dict[str, str]] = SEGMENT_NOTES

    segmenter: Boundary
    n: int = 4
    beta: float = 1.0
    threshold: Threshold | None = None
    acceptance: Acceptance = field(default_factory=HardAcceptance)
    max_tokens: int = 256

    def __post_init__(self) -> None:
        check_settings(
            self,
            segmenter=SEGMENTER,
            n=at_least(1),
            beta=POSITIVE_REWARD,
            threshold=THRESHOLD,
            acceptance=ACCEPTANCE,
            max_tokens=at_least(1),
        )
        require_same_ends(self.segmenter, self)

    @property
    def parallel_draws(self) -> int:
        """The segments of one round."""
        return self.n

    @property
    def missing_setting(self) -> str:
        """The threshold, if there is none and the rule of acceptance needs one."""
        hint = "threshold=constant threshold.value=..."
        return missing_threshold("gsi", self.threshold, self.acceptance, hint)

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Writes and commits segment after segment until the answer is complete."""
        pair = Pair.of(run)
        bar = await Bar.of(self.threshold, self.acceptance, prompt, run, self.max_tokens)
        if bar is None:
            return run.abstain(prompt, "the constraint allows no answer to this prompt")
        tally = Tally()

        async def next_segment(kept: Response, here: Run) -> Candidate:
            return await self._segment(prompt, kept, pair, bar, here, tally)

        return await write_segments(run, tally, next_segment)

    async def _segment(
        self, prompt: Prompt, kept: Response, pair: Pair, bar: Bar, run: Run, tally: Tally
    ) -> Candidate:
        start = len(kept.tokens)

        async def draw(here: Run) -> tuple[Sequence[Candidate], int | None, float]:
            drafts = await concurrently(
                pair.draw_scored(
                    prompt,
                    kept,
                    here.at(i),
                    max_tokens=self.max_tokens,
                    boundary=self.segmenter,
                )
                for i in range(self.n)
            )
            values = [one.reward + self.beta * log_ratio(one.response, start) for one in drafts]
            index = self._choose(drafts, values, here)
            return drafts, index, -math.inf if index is None else values[index]

        async def score(i: int) -> float:
            return (await draw(run.at("calibration", i)))[2]

        acceptance = await calibrate(self.acceptance, score)
        drafts, index, value = await draw(run.at("draft"))
        tally.num_drafts += 1
        for i, draft in enumerate(drafts):
            if i != index:
                _record(draft, Verdict.REJECTED, start, run.at("draft", i))
        if index is not None:
            chosen, here = drafts[index], run.at("draft", index)
            log_accept = bar.log_accept(acceptance, chosen, value)
            if here.decide(chosen, kept=start, log_accept=log_accept):
                tally.num_accepted += 1
                return chosen
        drawn = await concurrently(
            draw_segment(
                prompt,
                kept,
                run.at("policy", i),
                max_tokens=self.max_tokens,
                boundary=self.segmenter,
            )
            for i in range(self.n)
        )
        index = self._choose(drawn, [one.reward for one in drawn], run.at("policy"))
        for i, one in enumerate(drawn):
            verdict = Verdict.ACCEPTED if i == index else Verdict.REJECTED
            _record(one, verdict, start, run.at("policy", i))
        if index is None:
            return run.abstain(prompt, f"of {self.n} segments after {start} tokens none is allowed")
        return drawn[index]

    def _choose(
        self, segments: Sequence[Candidate], values: Sequence[float], run: Run
    ) -> int | None:
        """Draws one in proportion to exp(value / beta); None if none is possible."""
        allowed = [
            i
            for i, (one, value) in enumerate(zip(segments, values, strict=True))
            if not one.excluded and value > -math.inf
        ]
        if not allowed:
            return None
        weights = tilted_weights([values[i] for i in allowed], self.beta)
        return allowed[run.key.child("choose").categorical(weights)]


def _record(segment: Candidate, verdict: Verdict, kept: int, run: Run) -> None:
    run.record_proposal(
        segment,
        verdict=verdict,
        prob=1.0 if verdict is Verdict.ACCEPTED else 0.0,
        kept=kept,
        address=run.key.path,
    )

"""Rsd: reward-guided speculative decoding; a draft's segment is taken if its reward is good enough.

Law      Let y be the tokens kept so far, q(s) and p(s) the probabilities that the draft and the
         policy write the segment s after y and end it there, a(s) = P(accept) for the reward of
         y + s. The next segment is s with probability
             q(s) a(s) + (1 - sum q a) p(s).
         Under a constraint a(s) = 0 for what it excludes, and p is p given that s is allowed, but
         for the branch that `max_tries` draws of p were all excluded: the answer is then an
         abstention.
Move     The draft writes a segment; the reward judges the answer so far. If the segment is
         rejected, the policy writes one, which is taken untested.
Accept   a rule of `rsalign.segments.acceptance` against a threshold of
         `rsalign.segments.thresholds`: `HardAcceptance` is the paper's threshold, `SoftAcceptance`
         a weighted form, `Conformal` rejects a chosen share.
Paper    RSD, Liao et al. 2025, arXiv:2501.19324.
Departs  An answer ends by itself, and never because others of a batch have not. The draft need not
         write all that the policy can. Token ids are never decoded and encoded again.
Cost     one segment of the draft, and one of the policy if that is rejected; a reward for each.
Streams  each segment as soon as it is taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from rsalign.core.capabilities import TraceKind
from rsalign.core.checks import at_least, check_settings
from rsalign.core.protocols import SEGMENTER, Boundary
from rsalign.core.run import Run
from rsalign.core.trace import Verdict
from rsalign.core.types import Candidate, Prompt, Response
from rsalign.drafting.pair import NEEDS_DRAFT, Pair
from rsalign.drafting.segments import SEGMENT_NOTES, Tally, draw_segment, write_segments
from rsalign.segments.acceptance import ACCEPTANCE, Acceptance, HardAcceptance
from rsalign.segments.bar import Bar, missing_threshold
from rsalign.segments.conformal import calibrate, score_of
from rsalign.segments.thresholds import THRESHOLD, Threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Rsd:
    """Writes an answer by the part ``draft`` of the run where its reward is good enough.

    Notes: ``num_segments``, ``num_drafts``, ``num_accepted``, ``num_forced``, ``acceptance_rate``;
    ``prompt_reward`` if the threshold needs it.

    Attributes:
        segmenter: where segments end, such as ``FixedSize(16)``.
        threshold: the reward that a draft is held to, by the length of the answer; None only with
            an acceptance that needs none.
        acceptance: the probability of accepting a draft, given its reward and the threshold.
        max_tokens: greatest length of the whole answer in tokens, EOS included.
        max_tries: greatest number of draws of the policy for one segment, if a constraint excludes
            them.

    Raises:
        ConfigError: if a setting is out of its range; while running, if the draft does not fit the
            policy.

    Example:
        >>> from rsalign import Aligner, Constant, FixedSize
        >>> from rsalign.testing import ToyPolicy, ToyReward
        >>> strategy = Rsd(segmenter=FixedSize(2), threshold=Constant(value=0.5), max_tokens=6)
        >>> with Aligner(
        ...     ToyPolicy(), ToyReward(), strategy, parts={"draft": ToyPolicy(salt=1)}
        ... ) as aligner:
        ...     [output] = aligner.generate("1 2", use_tqdm=False)
        >>> sorted(output.alignment.usage.parts)
        ['draft']
    """

    needs: ClassVar[Mapping[str, Any]] = NEEDS_DRAFT
    trace_kind: ClassVar[TraceKind] = "segments"
    note_meanings: ClassVar[dict[str, str]] = SEGMENT_NOTES

    segmenter: Boundary
    threshold: Threshold | None = None
    acceptance: Acceptance = field(default_factory=HardAcceptance)
    max_tokens: int = 256
    max_tries: int = 20

    def __post_init__(self) -> None:
        check_settings(
            self,
            segmenter=SEGMENTER,
            threshold=THRESHOLD,
            acceptance=ACCEPTANCE,
            max_tokens=at_least(1),
            max_tries=at_least(1),
        )

    @property
    def missing_setting(self) -> str:
        """The threshold, if there is none and the rule of acceptance needs one."""
        hint = "threshold=constant threshold.value=..."
        return missing_threshold("rsd", self.threshold, self.acceptance, hint)

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
        async def draw(here: Run) -> Candidate:
            return await pair.draw(
                prompt, kept, here, max_tokens=self.max_tokens, boundary=self.segmenter
            )

        async def score(i: int) -> float:
            return score_of(await draw(run.at("calibration", i)))

        acceptance = await calibrate(self.acceptance, score)
        here = run.at("draft")
        drawn = await draw(here)
        log_accept = bar.log_accept(acceptance, drawn, drawn.reward)
        accepted = here.decide(drawn, kept=len(kept.tokens), log_accept=log_accept)
        tally.num_drafts += 1
        tally.num_accepted += accepted
        if accepted:
            return drawn
        for i in range(self.max_tries):
            here = run.at("policy", i)
            drawn = await draw_segment(
                prompt, kept, here, max_tokens=self.max_tokens, boundary=self.segmenter
            )
            here.record_proposal(
                drawn,
                verdict=Verdict.REJECTED if drawn.excluded else Verdict.ACCEPTED,
                prob=0.0 if drawn.excluded else 1.0,
                kept=len(kept.tokens),
                address=here.key.path,
            )
            if not drawn.excluded:
                return drawn
        return run.abstain(
            prompt, f"of {self.max_tries} segments after {len(kept.tokens)} tokens none is allowed"
        )

"""Speculate: speculative sampling of whole segments; the answer has the policy's own law.

Law      Let q(s) and p(s) be the probabilities that the draft and the policy write the segment s
         after the kept tokens and end it there, TV = sum (p - q)+ and R = max_tries. The next
         segment is s with probability
             min(p, q)(s) + (p - q)+(s) (1 - (1 - TV)^R) + TV (1 - TV)^(R-1) min(p, q)(s),
         which is p(s) but for the last term: with probability TV (1 - TV)^R no draw of the policy
         was accepted and the last one is taken (forced).
         Under a constraint the segment is drawn again until it is allowed: p given that, or an
         abstention if R of them were excluded.
Move     The draft writes a segment, which is accepted with probability min(1, p / q). If it is
         rejected, the policy writes segments until one is accepted with probability (1 - q / p)+.
Paper    speculative sampling: Leviathan et al. 2023, arXiv:2211.17192; Chen et al. 2023,
         arXiv:2302.01318.
Departs  A segment is accepted or rejected as a whole, and not token by token. The residual law
         cannot be normalised over segments, so that it is drawn from by rejection.
Cost     one segment of the draft and a request that scores it; if it is rejected, about 1 / TV
         segments of the policy, each scored by the draft: one on average over both cases.
Streams  each segment as soon as it is taken.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from rsalign.core.capabilities import TraceKind
from rsalign.core.checks import at_least, check_settings
from rsalign.core.protocols import SEGMENTER, Boundary
from rsalign.core.run import Run
from rsalign.core.trace import Verdict
from rsalign.core.types import Candidate, Prompt, Response
from rsalign.drafting.pair import NEEDS_DRAFT, Pair, log_ratio, require_same_ends
from rsalign.drafting.segments import SEGMENT_NOTES, Tally, draw_segment, write_segments
from rsalign.strategies.unjudged import judging_whole_answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Speculate:
    """Draws an answer of the policy, most of which the part ``draft`` of the run writes.

    No reward is needed. Both models must be able to score given tokens.

    Notes: ``num_segments``, ``num_drafts``, ``num_accepted``, ``num_forced``, ``acceptance_rate``,
    whose mean is 1 - TV.

    Attributes:
        segmenter: where segments end, such as ``FixedSize(4)``; it must not read entropies. The
            longer the segments, the fewer requests, and the fewer of them are accepted.
        max_tokens: greatest length of the whole answer in tokens, EOS included.
        max_tries: greatest number of segments of the policy after a rejected draft.

    Raises:
        ConfigError: if a setting is out of its range; while running, if the draft does not fit the
            policy, or one of them cannot score given tokens.

    Example:
        >>> from rsalign import Aligner, FixedSize
        >>> from rsalign.testing import ToyPolicy
        >>> strategy = Speculate(segmenter=FixedSize(2), max_tokens=6)
        >>> with Aligner(
        ...     ToyPolicy(), None, strategy, parts={"draft": ToyPolicy(salt=1)}
        ... ) as aligner:
        ...     [output] = aligner.generate("1 2", use_tqdm=False)
        >>> notes = output.alignment.diagnostics
        >>> notes["num_drafts"] == notes["num_segments"]
        True
    """

    needs_reward: ClassVar[bool] = False
    needs: ClassVar[Mapping[str, Any]] = NEEDS_DRAFT
    trace_kind: ClassVar[TraceKind] = "segments"
    note_meanings: ClassVar[dict[str, str]] = SEGMENT_NOTES

    segmenter: Boundary
    max_tokens: int = 256
    max_tries: int = 20

    def __post_init__(self) -> None:
        check_settings(self, segmenter=SEGMENTER, max_tokens=at_least(1), max_tries=at_least(1))
        require_same_ends(self.segmenter, self)

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Writes and commits segment after segment until the answer is complete."""
        pair, tally, run = Pair.of(run), Tally(), judging_whole_answers(run)

        async def next_segment(kept: Response, here: Run) -> Candidate:
            for i in range(self.max_tries):
                chosen = await self._segment(prompt, kept, pair, here.at("time", i), tally)
                if not chosen.excluded:
                    return chosen
            return run.abstain(
                prompt,
                f"of {self.max_tries} segments after {len(kept.tokens)} tokens none is allowed",
            )

        return await write_segments(run, tally, next_segment)

    async def _segment(
        self, prompt: Prompt, kept: Response, pair: Pair, run: Run, tally: Tally
    ) -> Candidate:
        """A segment that may be excluded: the constraint is no part of p and q."""
        start, here = len(kept.tokens), run.at("draft")
        drawn = await pair.draw_scored(
            prompt, kept, here, max_tokens=self.max_tokens, boundary=self.segmenter
        )
        tally.num_drafts += 1
        if _decide(drawn, kept, log_ratio(drawn.response, start), here):
            tally.num_accepted += 1
            return drawn
        for i in range(self.max_tries):
            here = run.at("policy", i)
            drawn = await draw_segment(
                prompt, kept, here, max_tokens=self.max_tokens, boundary=self.segmenter
            )
            drawn = await pair.score_drawn(prompt, kept, drawn)
            if _decide(drawn, kept, log_residual(log_ratio(drawn.response, start)), here):
                return drawn
        tally.num_forced += not drawn.excluded
        here.record_proposal(
            drawn,
            verdict=Verdict.REJECTED if drawn.excluded else Verdict.FORCED,
            kept=len(kept.tokens),
            address=run.key.path,
        )
        return drawn


def log_residual(log_ratio: float) -> float:
    """Ln (1 - q / p)+, given ln (p / q): the probability that a draw of the policy is accepted.

    Example:
        >>> round(math.exp(log_residual(math.log(4.0))), 12), log_residual(-1.0)
        (0.75, -inf)
    """
    return math.log(-math.expm1(-log_ratio)) if log_ratio > 0 else -math.inf


def _decide(drawn: Candidate, kept: Response, log_accept: float, run: Run) -> bool:
    """As `Run.decide`, but that what is excluded may be accepted: it is then drawn again."""
    accepted = run.key.child("accept").bernoulli(math.exp(min(0.0, log_accept)))
    run.record_proposal(
        drawn,
        verdict=Verdict.ACCEPTED if accepted and not drawn.excluded else Verdict.REJECTED,
        log_accept=log_accept,
        kept=len(kept.tokens),
        address=run.key.path,
    )
    return accepted

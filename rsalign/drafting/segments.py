"""Answers that are written segment by segment, by a draft where it is good enough."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rsalign.core.protocols import Boundary
from rsalign.core.run import Run
from rsalign.core.types import Candidate, Prompt, Response

SEGMENT_NOTES = {
    "num_segments": "of the answer",
    "num_drafts": "segments of the draft that were tested",
    "num_accepted": "segments of the draft that were taken",
    "num_forced": "segments taken without being accepted",
    "acceptance_rate": "share of the tested segments of the draft that were taken",
}
"""What the notes of `Tally` mean."""


@dataclass(slots=True)
class Tally:
    """Counts of one answer so far."""

    num_segments: int = 0
    num_drafts: int = 0
    num_accepted: int = 0
    num_forced: int = 0

    def note(self, run: Run) -> None:
        """Records the counts, after each segment, so that they exist if a budget ends the run."""
        run.trace.note(
            num_segments=self.num_segments,
            num_drafts=self.num_drafts,
            num_accepted=self.num_accepted,
            num_forced=self.num_forced,
            acceptance_rate=self.num_accepted / self.num_drafts if self.num_drafts else 0.0,
        )


async def write_segments(
    run: Run, tally: Tally, next_segment: Callable[[Response, Run], Awaitable[Candidate]]
) -> Candidate:
    """Commits segment after segment until the answer is complete, or an abstention.

    Args:
        run: the strategy's own.
        tally: counts segments; `next_segment` counts the rest.
        next_segment: from the kept response and a run at an address that it alone uses to the
            response with one more segment.
    """
    kept = Response((), "", None, ())
    while True:
        chosen = await next_segment(kept, run.at("segment", len(kept.tokens)))
        if not chosen.abstained:
            tally.num_segments += 1
            run.trace.commit(chosen.tokens[len(kept.tokens) :])
        tally.note(run)
        if chosen.response.complete:
            return chosen
        kept = chosen.response


async def draw_segment(
    prompt: Prompt, kept: Response, run: Run, *, max_tokens: int, boundary: Boundary
) -> Candidate:
    """One more segment, drawn from the policy."""
    return await run.draft(
        prompt,
        kept.tokens,
        max_tokens=max_tokens,
        boundary=boundary,
        kept_log_probs=kept.log_probs,
    )

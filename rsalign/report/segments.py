"""The view of an answer that grew segment by segment: the tries of each, and the threshold."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from markupsafe import Markup

from rsalign.core.capabilities import threshold_by_length
from rsalign.core.trace import Proposal, Trace, Verdict
from rsalign.report import figures
from rsalign.report.figures import Dot
from rsalign.report.notes import Diagnostic, diagnostic_rows
from rsalign.report.texts import Decode, TextParts, text_parts, tooltip

_MOST_KEPT = 60  # characters; they are the same for all tries, and are in the text above
_Threshold = Callable[[int], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One try of a segment.

    Attributes:
        reward: of the answer up to the end of this draft.
        threshold: that it had to reach; None if it is not known.
        prob: of being accepted.
        verdict: what became of it.
        text: its text in pieces.
    """

    reward: float
    threshold: float | None
    prob: float
    verdict: str
    text: TextParts


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentView:
    """One segment.

    Attributes:
        number: from 1.
        anchor: its id on the page.
        start: number of tokens before it.
        drafts: its tries that are listed; the last one was taken.
        num_hidden: number of tries that are not listed.
    """

    number: int
    anchor: str
    start: int
    drafts: list[Draft]
    num_hidden: int

    @property
    def taken(self) -> Draft:
        """The draft that became part of the answer."""
        return next((one for one in self.drafts if one.verdict != "rejected"), self.drafts[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentsView:
    """All segments of an answer.

    Attributes:
        rewards: the drawing of all rewards.
        segments: those that are listed.
        num_hidden: number of segments that are not listed.
        diagnostics: the notes of the run.
        has_threshold: whether the threshold is in the drawing.
    """

    rewards: Markup
    segments: list[SegmentView]
    num_hidden: int
    diagnostics: list[Diagnostic]
    has_threshold: bool

    template: ClassVar[str] = "segments.html"


def view_segments(
    trace: Trace, strategy: Any, decode: Decode, *, most: int, anchor: str
) -> SegmentsView | None:
    """The view of the segments of one answer; None if there is none yet.

    Args:
        trace: of the run.
        strategy: with its settings.
        decode: from tokens to their text.
        most: greatest number of proposals that are listed.
        anchor: id of the section on the page.
    """
    found = _group_by_segment(trace.proposals)
    if not found:
        return None
    threshold = threshold_by_length(strategy, trace.notes)
    views: list[SegmentView] = []
    left = most
    for i, tries in enumerate(found):
        if left <= 0:
            break
        # the try that was taken is shown in any case
        shown = [*tries[: max(1, left) - 1], tries[-1]] if len(tries) > left else tries
        left -= len(shown)
        views.append(
            SegmentView(
                number=i + 1,
                anchor=f"{anchor}-{i + 1}",
                start=tries[0].kept,
                drafts=[_view_draft(one, threshold, decode) for one in shown],
                num_hidden=len(tries) - len(shown),
            )
        )
    dots = [
        Dot(
            x=len(one.candidate.tokens),
            reward=one.candidate.reward,
            kind=one.verdict,
            tip=f"segment {view.number}: {one.verdict}, {tooltip(one.candidate)}",
            href=f"#{view.anchor}",
        )
        for view, tries in zip(views, found, strict=False)
        for one in tries
    ]
    line: list[tuple[float, float]] = []
    if threshold is not None:
        line = [(n, threshold(n)) for n in range(1, int(max(dot.x for dot in dots)) + 1)]
    return SegmentsView(
        rewards=figures.rewards_by_length(dots, line),
        segments=views,
        num_hidden=len(found) - len(views),
        diagnostics=diagnostic_rows(trace.notes, strategy),
        has_threshold=bool(line),
    )


def _group_by_segment(proposals: list[Proposal]) -> list[list[Proposal]]:
    """The tries of each segment, in order; a rejected one that was then forced comes once, last."""
    found: list[list[Proposal]] = []
    for proposal in proposals:
        if not found or found[-1][0].kept != proposal.kept:
            found.append([])
        if proposal.verdict is Verdict.FORCED:
            found[-1] = [p for p in found[-1] if p.candidate is not proposal.candidate]
        found[-1].append(proposal)
    return found


def _view_draft(proposal: Proposal, threshold: _Threshold | None, decode: Decode) -> Draft:
    return Draft(
        reward=proposal.candidate.reward,
        threshold=None if threshold is None else threshold(len(proposal.candidate.tokens)),
        prob=math.exp(proposal.log_accept),
        verdict=proposal.verdict,
        text=text_parts(proposal, decode, _MOST_KEPT),
    )

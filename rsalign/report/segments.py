"""How an answer grew segment by segment: each segment's tries against the threshold."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup

from rsalign.core.trace import Note, Proposal, Trace, Verdict
from rsalign.report import figures
from rsalign.report.figures import Dot
from rsalign.report.notes import Diagnostic, diagnostics
from rsalign.report.texts import Decode, Parts, parts, tip
from rsalign.strategies.calibrate import Calibrate
from rsalign.strategies.cards import Cards

_MOST_KEPT = 60  # characters: the same for all tries, and in the text above
Bar = Callable[[int], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One try of a segment.

    Attributes:
        reward: of the answer up to its end.
        threshold: that it was held to; None if it is not known.
        prob: of being accepted.
        verdict: what became of it.
        text: in pieces.
    """

    reward: float
    threshold: float | None
    prob: float
    verdict: str
    text: Parts


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentView:
    """One segment.

    Attributes:
        number: from 1.
        anchor: where it is on the page.
        start: tokens before it.
        drafts: its tries that are listed; the last is the one that was taken.
        num_hidden: tries that are not.
    """

    number: int
    anchor: str
    start: int
    drafts: list[Draft]
    num_hidden: int

    @property
    def taken(self) -> Draft:
        """What became a part of the answer."""
        return next((one for one in self.drafts if one.verdict != "rejected"), self.drafts[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentsView:
    """All segments of an answer.

    Attributes:
        rewards: the drawing.
        segments: those that are listed.
        num_hidden: segments that are not.
        diagnostics: what was noted.
        has_threshold: whether the threshold is in the drawing.
    """

    rewards: Markup
    segments: list[SegmentView]
    num_hidden: int
    diagnostics: list[Diagnostic]
    has_threshold: bool

    template: ClassVar[str] = "segments.html"


def segments(
    trace: Trace, strategy: Cards | Calibrate, decode: Decode, *, most: int, anchor: str
) -> SegmentsView | None:
    """The segments of one answer; None if there is none yet.

    Args:
        trace: of the strategy.
        strategy: with its settings.
        decode: text of given tokens.
        most: proposals to be listed.
        anchor: where this is on the page.
    """
    found = _by_segment(trace.proposals)
    if not found:
        return None
    bar = _threshold(strategy, trace.notes)
    views: list[SegmentView] = []
    left = most
    for i, tries in enumerate(found):
        if left <= 0:
            break
        # the one that was taken is shown in any case
        shown = [*tries[: max(1, left) - 1], tries[-1]] if len(tries) > left else tries
        left -= len(shown)
        views.append(
            SegmentView(
                number=i + 1,
                anchor=f"{anchor}-{i + 1}",
                start=tries[0].kept,
                drafts=[_draft(one, bar, decode) for one in shown],
                num_hidden=len(tries) - len(shown),
            )
        )
    dots = [
        Dot(
            x=len(one.candidate.tokens),
            reward=one.candidate.reward,
            kind=one.verdict,
            tip=f"segment {view.number}: {one.verdict}, {tip(one.candidate)}",
            href=f"#{view.anchor}",
        )
        for view, tries in zip(views, found, strict=False)
        for one in tries
    ]
    line: list[tuple[float, float]] = []
    if bar is not None:
        line = [(n, bar(n)) for n in range(1, int(max(dot.x for dot in dots)) + 1)]
    return SegmentsView(
        rewards=figures.rewards_by_length(dots, line),
        segments=views,
        num_hidden=len(found) - len(views),
        diagnostics=diagnostics(trace.notes),
        has_threshold=bool(line),
    )


def _by_segment(proposals: list[Proposal]) -> list[list[Proposal]]:
    """Tries of each segment in order; one that was rejected and then forced is there once, last."""
    found: list[list[Proposal]] = []
    for proposal in proposals:
        if not found or found[-1][0].kept != proposal.kept:
            found.append([])
        if proposal.verdict is Verdict.FORCED:
            found[-1] = [p for p in found[-1] if p.candidate is not proposal.candidate]
        found[-1].append(proposal)
    return found


def _threshold(strategy: Cards | Calibrate, notes: dict[str, Note]) -> Bar | None:
    """The threshold by number of tokens, as far as the notes tell what it rests on."""
    cards = strategy.inner if isinstance(strategy, Calibrate) else strategy
    threshold, target = cards.threshold, notes.get("target")
    if isinstance(strategy, Calibrate) and isinstance(target, int | float):
        threshold = strategy.aimed(target)
    if threshold is None:
        return None
    prompt_reward = notes.get("prompt_reward", None if threshold.needs_prompt_reward else 0.0)
    if not isinstance(prompt_reward, int | float):
        return None
    return lambda length: threshold.at(
        length, prompt_reward=prompt_reward, max_tokens=cards.max_tokens
    )


def _draft(proposal: Proposal, bar: Bar | None, decode: Decode) -> Draft:
    return Draft(
        reward=proposal.candidate.reward,
        threshold=None if bar is None else bar(len(proposal.candidate.tokens)),
        prob=math.exp(proposal.log_accept),
        verdict=proposal.verdict,
        text=parts(proposal, decode, _MOST_KEPT),
    )

"""The view of a population: the tree of its prefixes, round by round."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from markupsafe import Markup

from rsalign.core.key import Label
from rsalign.core.trace import Note, Proposal, Trace, Verdict
from rsalign.core.types import Tokens
from rsalign.report import figures
from rsalign.report.figures import Branch
from rsalign.report.notes import Diagnostic, diagnostic_rows
from rsalign.report.texts import Decode, TextParts, text_parts, tooltip

_MOST_KEPT = 60  # characters
_SHOWN_ELSEWHERE = ("ancestors", "log_weights", "ess_by_round", "rewards")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One segment that was drawn.

    Attributes:
        number: of the particle or draft in its round, from 0.
        reward: of the prefix up to its end.
        log_weight: of the particle after it, nats; None if it is not known.
        verdict: rejected if no prefix that went on begins with it.
        text: its text in pieces.
    """

    number: int
    reward: float
    log_weight: float | None
    verdict: str
    text: TextParts


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundView:
    """One round.

    Attributes:
        name: its number from 1, after that of its subtree if there are several.
        drafts: those that are listed.
        num_hidden: number of drafts that are not listed.
        num_died: number of drafts that nothing went on from.
        sample_size: effective sample size of the weights; None if there are none.
    """

    name: str
    drafts: list[Draft]
    num_hidden: int
    num_died: int
    sample_size: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PopulationView:
    """All rounds of a population.

    Attributes:
        tree: the drawing of all prefixes.
        rounds: those that are listed.
        num_hidden: number of rounds that are not listed.
        diagnostics: the notes of the run.
    """

    tree: Markup
    rounds: list[RoundView]
    num_hidden: int
    diagnostics: list[Diagnostic]

    template: ClassVar[str] = "population.html"


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A draft with its place: the subtree, the round and the number in the round."""

    subtree: tuple[Label, ...]
    round: int
    number: int
    proposal: Proposal


def view_population(
    trace: Trace, strategy: Any, decode: Decode, *, most: int
) -> PopulationView | None:
    """The view of a population; None if nothing was drawn yet.

    Args:
        trace: of the run.
        strategy: with its settings.
        decode: from tokens to their text.
        most: greatest number of drafts that are listed.
    """
    drawn = [found for one in trace.proposals if (found := _place(one)) is not None]
    if not drawn:
        return None
    rounds = [
        list(group) for _, group in itertools.groupby(drawn, lambda one: (one.subtree, one.round))
    ]
    views: list[RoundView] = []
    left = most
    for drafts in rounds:
        if left <= 0:
            break
        views.append(_view_round(drafts, trace.notes, decode, left))
        left -= len(views[-1].drafts)
    return PopulationView(
        tree=figures.tree(_branches(drawn)),
        rounds=views,
        num_hidden=len(rounds) - len(views),
        diagnostics=diagnostic_rows(trace.notes, strategy, _SHOWN_ELSEWHERE),
    )


def _place(proposal: Proposal) -> _Drawn | None:
    """Where a draft was drawn; None for a move or the choice of the answer."""
    match proposal.address:
        case (*before, "round", int(number), "particle", int(i)):
            subtree = before[-2:] if before[-2:-1] == ["subtree"] else []
            return _Drawn(tuple(subtree), number, i, proposal)
    return None


def _view_round(
    drafts: Sequence[_Drawn], notes: dict[str, Note], decode: Decode, most: int
) -> RoundView:
    first = drafts[0]
    sizes = notes.get("ess_by_round")
    size = sizes[first.round] if isinstance(sizes, tuple) and first.round < len(sizes) else None
    return RoundView(
        name=" ".join(map(str, (*first.subtree, "round", first.round + 1))),
        drafts=[
            Draft(
                number=one.number,
                reward=one.proposal.candidate.reward,
                log_weight=_log_weight(one, notes),
                verdict=one.proposal.verdict,
                text=text_parts(one.proposal, decode, _MOST_KEPT),
            )
            for one in drafts[:most]
        ],
        num_hidden=max(0, len(drafts) - most),
        num_died=sum(one.proposal.verdict is Verdict.REJECTED for one in drafts),
        sample_size=float(size) if isinstance(size, float | int) else None,
    )


def _log_weight(drawn: _Drawn, notes: dict[str, Note]) -> float | None:
    logs, sizes = notes.get("log_weights"), notes.get("ess_by_round")
    if not isinstance(logs, tuple) or not isinstance(sizes, tuple) or not sizes:
        return None
    num_particles = len(logs) // len(sizes)
    value = logs[drawn.round * num_particles + drawn.number]
    return float(value) if isinstance(value, float | int) else None


def _branches(drawn: Sequence[_Drawn]) -> list[Branch]:
    """The tree: each draft begins where the prefix that it continues ends."""
    ends: dict[tuple[tuple[Label, ...], Tokens], float] = {}
    lanes = {place: float(i) for i, place in enumerate(_lanes(drawn))}
    branches = []
    for one in drawn:
        candidate, kept = one.proposal.candidate, one.proposal.kept
        lane = lanes[one.subtree, one.number]
        branches.append(
            Branch(
                start=kept,
                end=len(candidate.tokens),
                parent=ends.get((one.subtree, candidate.tokens[:kept]), lane),
                lane=lane,
                kind=one.proposal.verdict,
                tip=f"round {one.round + 1}, number {one.number}: {tooltip(candidate)}",
                complete=candidate.response.complete,
            )
        )
        ends[one.subtree, candidate.tokens] = lane
    return branches


def _lanes(drawn: Sequence[_Drawn]) -> list[tuple[tuple[Label, ...], int]]:
    return sorted({(one.subtree, one.number) for one in drawn}, key=_by_place)


def _by_place(place: tuple[tuple[Label, ...], int]) -> tuple[int, int]:
    subtree, number = place
    return (int(subtree[-1]) if subtree else 0, number)

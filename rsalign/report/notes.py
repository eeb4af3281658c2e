"""The notes of a run: as rows of a table, and as votes for answers."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from rsalign.core.capabilities import note_meanings
from rsalign.core.trace import Note

_MEANINGS = {"reward_failed": "the reward ended the run"}
"""Of the notes that `align` makes; strategies and their parts declare those of their own."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One row of the table of notes.

    Attributes:
        name: of the note.
        value: as text.
        meaning: in a few words; empty if nothing declares it.
    """

    name: str
    value: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """One answer that was voted on.

    Attributes:
        answer: as it was extracted; None stands for responses without an answer.
        share: of all votes, 0 to 1.
        num_candidates: number of different responses with this answer.
        elected: whether it won.
    """

    answer: str | None
    share: float
    num_candidates: int
    elected: bool


def diagnostic_rows(
    notes: Mapping[str, Note], strategy: Any, shown_elsewhere: Collection[str] = ()
) -> list[Diagnostic]:
    """The notes as rows of a table.

    Args:
        notes: of the run.
        strategy: declares what its notes mean (`rsalign.core.capabilities.note_meanings`).
        shown_elsewhere: names of notes that are left out.
    """
    meanings = _MEANINGS | note_meanings(strategy)
    return [
        Diagnostic(name, _format_value(value), meanings.get(name, ""))
        for name, value in notes.items()
        if name not in shown_elsewhere
    ]


def vote_rows(notes: Mapping[str, Note]) -> list[Vote]:
    """The answers that were voted on: the winner, then by votes; empty if there was no vote."""
    answers, shares = notes.get("answers"), notes.get("vote_shares")
    if not isinstance(answers, tuple) or not isinstance(shares, tuple):
        return []
    share = {answer: float(of or 0) for answer, of in zip(answers, shares, strict=True)}
    if None in share:
        share[None] = max(0.0, 1.0 - sum(share.values()))
    found = [
        Vote(
            answer=None if answer is None else str(answer),
            share=part,
            num_candidates=answers.count(answer),
            elected=answer is not None and answer == notes.get("answer"),
        )
        for answer, part in share.items()
    ]
    return sorted(found, key=lambda vote: (not vote.elected, -vote.share))


def format_number(value: float) -> str:
    """A number with four significant digits."""
    return f"{value:.4g}"


def describe_reward(reward: float) -> str:
    """A reward with its named components, or that a constraint excludes the response."""
    if getattr(reward, "excluded", False):
        return "none: not allowed"
    components = getattr(reward, "parts", {})
    named = ", ".join(f"{name} {format_number(value)}" for name, value in components.items())
    return f"{format_number(reward)} ({named})" if named else format_number(reward)


def _format_value(value: Note) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "unknown"
    if isinstance(value, tuple):
        shown = [format_number(one) if isinstance(one, float) else str(one) for one in value[:12]]
        return ", ".join(shown) + (f", ... ({len(value)})" if len(value) > 12 else "")
    return value if isinstance(value, str) else format_number(value)

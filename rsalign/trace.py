"""What a strategy did, kept apart from what it returns."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from rsalign.key import Label
from rsalign.types import Candidate, Tokens

Note: TypeAlias = float | int | str | bool | tuple[float, ...] | None
"""A value of a diagnostic: plain data, so that any record format can hold it."""


class Verdict(StrEnum):
    """What became of a proposal."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    FORCED = "forced"
    """Taken although it was not accepted (tries exhausted): here the law's guarantee ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One candidate that was considered.

    Attributes:
        candidate: what was proposed, whether or not it was taken.
        kept: number of tokens shared with the state it was proposed from.
        log_accept: ln of the probability of accepting it, nats, at most 0.
        verdict: what became of it.
    """

    candidate: Candidate
    kept: int
    log_accept: float
    verdict: Verdict


@dataclass(slots=True)
class Trace:
    """The one mutable object that a strategy may touch.

    Attributes:
        on_commit: called with each piece that was committed (streaming).
        proposals: everything considered, in order of decision.
        committed: tokens of the final response so far; never retracted.
        children: traces of inner runs, by their address below this one.
        notes: diagnostics of the strategy's own (`note`).
    """

    on_commit: Callable[[Tokens], None] | None = None
    proposals: list[Proposal] = field(default_factory=list)
    committed: Tokens = ()
    children: dict[tuple[Label, ...], "Trace"] = field(default_factory=dict)
    notes: dict[str, Note] = field(default_factory=dict)

    def propose(self, proposal: Proposal) -> None:
        """Records a proposal and its verdict."""
        self.proposals.append(proposal)

    def commit(self, tokens: Tokens) -> None:
        """Hands over the next tokens of the final response; they are never retracted."""
        self.committed += tokens
        if self.on_commit:
            self.on_commit(tokens)

    def note(self, **values: Note) -> None:
        """Records diagnostics by name."""
        self.notes.update(values)

    def child(self, *labels: Label) -> "Trace":
        """The trace of an inner run; what it commits is not committed here."""
        return self.children.setdefault(labels, Trace())

    def walk(self) -> Iterator["Trace"]:
        """This trace and all below it."""
        yield self
        for child in self.children.values():
            yield from child.walk()

    @property
    def forced(self) -> bool:
        """Whether any proposal, here or below, was taken without being accepted."""
        return any(
            proposal.verdict is Verdict.FORCED
            for trace in self.walk()
            for proposal in trace.proposals
        )

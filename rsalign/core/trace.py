"""What a strategy did, kept apart from what it returns."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from rsalign.core.key import Label
from rsalign.core.types import Candidate, Tokens

Note: TypeAlias = float | int | str | bool | tuple[float, ...] | tuple[str | None, ...] | None
"""A value of a diagnostic: plain data, so that any record format can hold it."""


Estimate: TypeAlias = Callable[[], Awaitable[Candidate | None]]
"""Chooses an answer from what has been drawn so far; None if nothing that could be one has been."""


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
        state: the complete response that it would replace; None if it replaces none.
        address: path of the key that it was drawn and decided under; empty if it was drawn by an
            inner run, or before.
    """

    candidate: Candidate
    kept: int
    log_accept: float
    verdict: Verdict
    state: Candidate | None = None
    address: tuple[Label, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a long run stands. Unlike what is committed, its present answer may yet change.

    Attributes:
        step: how many were done, of the slowest chain.
        steps: greatest number of steps.
        answer: what would be the answer now: a text, or what was extracted from it.
        share: of the votes that it has, 0 to 1; None where nothing is voted on.
    """

    step: int
    steps: int
    answer: str | None
    share: float | None


@dataclass(slots=True)
class Trace:
    """The one mutable object that a strategy may touch.

    Attributes:
        on_commit: called with each piece that was committed (streaming).
        on_progress: called now and then by strategies that decide at the end.
        proposals: everything considered, in order of decision.
        committed: tokens of the final response so far; never retracted.
        children: traces of inner runs, by their address below this one.
        notes: diagnostics of the strategy's own (`note`).
        warnings: what the user should know about this run (`warn`), in order, each once.
        estimate: how the answer is found if the run ends before the strategy does (`answer_by`);
            None once the run is over, or if the strategy does not say.
    """

    on_commit: Callable[[Tokens], None] | None = None
    on_progress: Callable[[Progress], None] | None = None
    proposals: list[Proposal] = field(default_factory=list)
    committed: Tokens = ()
    children: dict[tuple[Label, ...], "Trace"] = field(default_factory=dict)
    notes: dict[str, Note] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    estimate: Estimate | None = field(default=None, repr=False, compare=False)

    def propose(self, proposal: Proposal) -> None:
        """Records a proposal and its verdict."""
        self.proposals.append(proposal)

    def commit(self, tokens: Tokens) -> None:
        """Hands over the next tokens of the final response; they are never retracted."""
        self.committed += tokens
        if self.on_commit:
            self.on_commit(tokens)

    def progress(self, progress: Progress) -> None:
        """Tells whoever watches where the run stands."""
        if self.on_progress:
            self.on_progress(progress)

    def note(self, **values: Note) -> None:
        """Records diagnostics by name."""
        self.notes.update(values)

    def warn(self, text: str) -> None:
        """Tells the user something about this run; the same text is kept once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def answer_by(self, estimate: Estimate) -> None:
        """Says how the answer is found if a budget ends the run before the strategy does.

        `rsalign.core.align` calls it after everything that was open has been cancelled. Without
        one, the
        finished answer with the highest reward is returned.

        Args:
            estimate: chooses from what was drawn. It must neither draw from the policy nor ask a
                reward or judge, and depend on what was drawn and not on the order in which draws
                were finished. What it returns must begin with what was committed.
        """
        self.estimate = estimate

    def child(self, *labels: Label) -> "Trace":
        """The trace of an inner run; what it commits is not committed here."""
        return self.children.setdefault(labels, Trace())

    def walk(self) -> Iterator["Trace"]:
        """This trace and all below it."""
        yield self
        for child in self.children.values():
            yield from child.walk()

    def all_warnings(self) -> tuple[str, ...]:
        """The warnings of this trace and of all below it, without repeats."""
        return tuple(dict.fromkeys(text for trace in self.walk() for text in trace.warnings))

    @property
    def forced(self) -> bool:
        """Whether any proposal, here or below, was taken without being accepted."""
        return any(
            proposal.verdict is Verdict.FORCED
            for trace in self.walk()
            for proposal in trace.proposals
        )

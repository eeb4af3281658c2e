"""Trace: the record of what a strategy did, separate from the answer that it returns."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from rsalign.core.key import Label
from rsalign.core.types import Candidate, Tokens

Note: TypeAlias = float | int | str | bool | tuple[float, ...] | tuple[str | None, ...] | None
"""A diagnostic value: plain data, so that any file format can hold it."""


Estimate: TypeAlias = Callable[[], Awaitable[Candidate | None]]
"""Selects an answer among the responses drawn so far; returns None if there is none."""


class Verdict(StrEnum):
    """The decision about a proposal.

    Example:
        >>> Verdict("forced") is Verdict.FORCED
        True
    """

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    FORCED = "forced"
    """Taken without being accepted (tries exhausted); the distribution is then not guaranteed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One candidate that a strategy considered, with its decision.

    Attributes:
        candidate: the proposed candidate.
        kept: number of tokens that it shares with the state that it was proposed from.
        log_accept: ln of its acceptance probability, nats, at most 0.
        verdict: the decision.
        state: the complete response that it would replace; None if it replaces none.
        address: path of the key for its draw and decision; empty if an inner run drew it, or if it
            was drawn earlier.

    Example:
        >>> from rsalign import Response, Stop
        >>> draft = Candidate(Response((5, 0), "Yes.", Stop.EOS), reward=0.25)
        >>> proposal = Proposal(
        ...     candidate=draft, kept=0, log_accept=-0.7, verdict=Verdict.REJECTED
        ... )
        >>> str(proposal.verdict)
        'rejected'
    """

    candidate: Candidate
    kept: int
    log_accept: float
    verdict: Verdict
    state: Candidate | None = None
    address: tuple[Label, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The progress of a long run. The current answer may still change, unlike committed tokens.

    Attributes:
        step: number of steps that the slowest chain has made.
        steps: greatest number of steps.
        answer: the current answer: a text, or the answer extracted from it.
        share: its share of the votes, 0 to 1; None if the strategy does not vote.

    Example:
        >>> Progress(step=3, steps=8, answer="42", share=0.75).answer
        '42'
    """

    step: int
    steps: int
    answer: str | None
    share: float | None


@dataclass(slots=True)
class Trace:
    """The record that a strategy writes while it runs. It is the only mutable object of a run.

    Attributes:
        on_commit: called with each committed piece (streaming).
        on_progress: called from time to time by strategies that decide at the end.
        proposals: all candidates that were considered, in order of decision.
        committed: tokens of the final response so far; they are never retracted.
        children: traces of inner runs, by their address relative to this one.
        notes: diagnostics of the strategy (`note`).
        warnings: messages for the user (`warn`), in order, each once.
        estimate: selects the answer if the run ends before the strategy does (`answer_by`); None if
            the strategy did not set it, and after the run.

    Example:
        >>> trace = Trace(on_commit=print)
        >>> trace.commit((5, 6))
        (5, 6)
        >>> trace.note(acceptance_rate=0.5)
        >>> trace.notes
        {'acceptance_rate': 0.5}
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
        """Appends tokens to the final response, and streams them; they cannot be retracted."""
        self.committed += tokens
        if self.on_commit:
            self.on_commit(tokens)

    def progress(self, progress: Progress) -> None:
        """Reports progress to `on_progress`."""
        if self.on_progress:
            self.on_progress(progress)

    def note(self, **values: Note) -> None:
        """Records diagnostics by name."""
        self.notes.update(values)

    def warn(self, text: str) -> None:
        """Adds a message for the user; equal messages are kept once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def answer_by(self, estimate: Estimate) -> None:
        """Sets how the answer is selected if a budget ends the run before the strategy does.

        `rsalign.core.align` calls `estimate` after all open work was cancelled. Without it, the
        finished response with the highest reward is returned.

        Args:
            estimate: selects among the responses drawn so far. It must not call the policy, a
                reward or a judge, and its choice must not depend on the order in which draws
                finished. Its result must begin with the committed tokens.
        """
        self.estimate = estimate

    def child(self, *labels: Label) -> "Trace":
        """Returns the trace of an inner run, whose committed tokens are not committed here."""
        return self.children.setdefault(labels, Trace())

    def walk(self) -> Iterator["Trace"]:
        """Yields this trace and those of all inner runs."""
        yield self
        for child in self.children.values():
            yield from child.walk()

    def all_warnings(self) -> tuple[str, ...]:
        """Returns the warnings of this trace and of all inner runs, each once."""
        return tuple(dict.fromkeys(text for trace in self.walk() for text in trace.warnings))

    @property
    def forced(self) -> bool:
        """Whether a proposal, here or in an inner run, was taken without being accepted."""
        return any(
            proposal.verdict is Verdict.FORCED
            for trace in self.walk()
            for proposal in trace.proposals
        )

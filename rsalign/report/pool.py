"""Candidates side by side: best-of-n, and any strategy that has no view of its own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from markupsafe import Markup

from rsalign.core.trace import Proposal, Trace
from rsalign.report import figures
from rsalign.report.figures import Dot
from rsalign.report.notes import Diagnostic, Vote, diagnostics, votes
from rsalign.report.texts import Decode, Parts, parts, tip


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateView:
    """One candidate.

    Attributes:
        number: from 0, in the order in which it is on record.
        anchor: where it is on the page.
        reward: of the response.
        prob: of being taken, given the others.
        verdict: what became of it.
        answer: what was extracted from it to be voted on; None: nothing.
        text: in pieces.
    """

    number: int
    anchor: str
    reward: float
    prob: float
    verdict: str
    answer: str | None
    text: Parts


@dataclass(frozen=True, slots=True)
class InnerView:
    """How an inner run went.

    Attributes:
        name: for people.
        section: its own view.
    """

    name: str
    section: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolView:
    """A list of candidates.

    Attributes:
        rewards: the drawing; None where there is nothing to compare.
        candidates: those that are listed.
        num_hidden: candidates that are not.
        ranked: whether they are in the order of their rewards.
        votes: on the answer.
        diagnostics: what was noted.
        inner: runs below.
    """

    rewards: Markup | None
    candidates: list[CandidateView]
    num_hidden: int
    ranked: bool
    votes: list[Vote]
    diagnostics: list[Diagnostic]
    inner: list[InnerView]

    template: ClassVar[str] = "pool.html"


def pool(
    trace: Trace,
    decode: Decode,
    *,
    ranked: bool,
    inner: Sequence[InnerView],
    most: int,
    anchor: str,
) -> PoolView:
    """The candidates of one run.

    Args:
        trace: of the strategy.
        decode: text of given tokens.
        ranked: whether the highest reward comes first, after the one that was taken.
        inner: views of the runs below.
        most: proposals to be listed.
        anchor: where this is on the page.
    """
    notes = trace.notes
    answers = notes.get("answers")
    if not isinstance(answers, tuple) or len(answers) != len(trace.proposals):
        answers = (None,) * len(trace.proposals)
    listed = list(enumerate(trace.proposals))
    if ranked:
        listed.sort(key=lambda one: (one[1].verdict == "rejected", -one[1].candidate.reward))
    num_hidden = max(0, len(listed) - most)
    listed = listed[:most]
    rewards = None
    if len({proposal.candidate.reward for proposal in trace.proposals}) > 1:
        rewards = figures.reward_strip([_dot(i, p, f"{anchor}-{i}") for i, p in listed])
    return PoolView(
        rewards=rewards,
        candidates=[
            CandidateView(
                number=i,
                anchor=f"{anchor}-{i}",
                reward=proposal.candidate.reward,
                prob=math.exp(proposal.log_accept),
                verdict=proposal.verdict,
                answer=None if answers[i] is None else str(answers[i]),
                text=parts(proposal, decode),
            )
            for i, proposal in listed
        ],
        num_hidden=num_hidden,
        ranked=ranked,
        votes=votes(notes),
        diagnostics=diagnostics(notes, {"answers", "vote_shares", "answer", "rewards"}),
        inner=list(inner),
    )


def _dot(i: int, proposal: Proposal, anchor: str) -> Dot:
    return Dot(
        x=0,
        reward=proposal.candidate.reward,
        kind=proposal.verdict,
        tip=f"{i}: {proposal.verdict}, {tip(proposal.candidate)}",
        href=f"#{anchor}",
    )

"""The view of candidates side by side: pools, and all strategies without a view of their own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from markupsafe import Markup

from rsalign.core.trace import Proposal, Trace
from rsalign.report import figures
from rsalign.report.figures import Dot
from rsalign.report.notes import Diagnostic, Vote, diagnostic_rows, vote_rows
from rsalign.report.texts import Decode, TextParts, text_parts, tooltip


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateView:
    """One candidate.

    Attributes:
        number: from 0, in the order in which the proposals were recorded.
        anchor: its id on the page.
        reward: of the response.
        prob: of being chosen, given the others.
        verdict: what became of it.
        answer: that was extracted from it to be voted on; None if there is none.
        text: its text in pieces.
    """

    number: int
    anchor: str
    reward: float
    prob: float
    verdict: str
    answer: str | None
    text: TextParts


@dataclass(frozen=True, slots=True)
class InnerView:
    """One inner run.

    Attributes:
        name: as it is shown.
        section: its own view.
    """

    name: str
    section: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolView:
    """A list of candidates.

    Attributes:
        rewards: the drawing of all rewards; None if there is nothing to compare.
        candidates: those that are listed.
        num_hidden: number of candidates that are not listed.
        ranked: whether they are in the order of their rewards.
        votes: for the answers.
        diagnostics: the notes of the run.
        inner: the views of inner runs.
    """

    rewards: Markup | None
    candidates: list[CandidateView]
    num_hidden: int
    ranked: bool
    votes: list[Vote]
    diagnostics: list[Diagnostic]
    inner: list[InnerView]

    template: ClassVar[str] = "pool.html"


def view_pool(
    trace: Trace,
    strategy: Any,
    decode: Decode,
    *,
    ranked: bool,
    inner: Sequence[InnerView],
    most: int,
    anchor: str,
) -> PoolView:
    """The view of the candidates of one run.

    Args:
        trace: of the run.
        strategy: declares what the notes mean.
        decode: from tokens to their text.
        ranked: whether candidates are listed by reward, after the one that was chosen.
        inner: views of the inner runs.
        most: greatest number of proposals that are listed.
        anchor: id of the section on the page.
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
                text=text_parts(proposal, decode),
            )
            for i, proposal in listed
        ],
        num_hidden=num_hidden,
        ranked=ranked,
        votes=vote_rows(notes),
        diagnostics=diagnostic_rows(
            notes, strategy, {"answers", "vote_shares", "answer", "rewards"}
        ),
        inner=list(inner),
    )


def _dot(i: int, proposal: Proposal, anchor: str) -> Dot:
    return Dot(
        x=0,
        reward=proposal.candidate.reward,
        kind=proposal.verdict,
        tip=f"{i}: {proposal.verdict}, {tooltip(proposal.candidate)}",
        href=f"#{anchor}",
    )

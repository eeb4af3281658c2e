"""The view of a tree search: the tree of its prefixes with their values and visits."""

from dataclasses import dataclass
from typing import Any, ClassVar

from markupsafe import Markup

from rsalign.core.trace import Note, Proposal, Trace
from rsalign.report import figures
from rsalign.report.figures import Branch
from rsalign.report.notes import Diagnostic, diagnostic_rows
from rsalign.report.texts import Decode, TextParts, text_parts, tooltip

_MOST_KEPT = 60  # characters
_SHOWN_ELSEWHERE = ("parents", "values", "visits", "rewards")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """One draft of the search: a prefix in the tree, or a roll-out.

    Attributes:
        number: of the draft, from 1.
        parent: number of the draft that it continues; 0: the prompt.
        is_rollout: whether it is the end of an answer, and no node.
        value: after the search, in units of the reward.
        visits: of it.
        reward: of it.
        verdict: accepted if no sibling had a greater value.
        text: its text in pieces.
    """

    number: int
    parent: int
    is_rollout: bool
    value: float
    visits: int
    reward: float
    verdict: str
    text: TextParts


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeView:
    """All drafts of a tree search.

    Attributes:
        tree: the drawing of all prefixes and roll-outs.
        nodes: the drafts that are listed.
        num_hidden: number of drafts that are not listed.
        diagnostics: the notes of the run.
    """

    tree: Markup
    nodes: list[NodeView]
    num_hidden: int
    diagnostics: list[Diagnostic]

    template: ClassVar[str] = "tree.html"


def view_tree(trace: Trace, strategy: Any, decode: Decode, *, most: int) -> TreeView | None:
    """The view of a tree search; None if nothing was recorded.

    Args:
        trace: of the run.
        strategy: with its settings.
        decode: from tokens to their text.
        most: greatest number of drafts that are listed.
    """
    parents = _numbers(trace.notes.get("parents"))
    values, visits = (_numbers(trace.notes.get(name)) for name in ("values", "visits"))
    if not parents:
        return None
    drafts = trace.proposals[: len(parents)]
    return TreeView(
        tree=figures.tree(_branches(drafts, [int(one) for one in parents], values)),
        nodes=[
            NodeView(
                number=i + 1,
                parent=int(parents[i]),
                is_rollout=_is_rollout(draft),
                value=values[i],
                visits=int(visits[i]),
                reward=draft.candidate.reward,
                verdict=draft.verdict,
                text=text_parts(draft, decode, _MOST_KEPT),
            )
            for i, draft in enumerate(drafts[:most])
        ],
        num_hidden=max(0, len(drafts) - most),
        diagnostics=diagnostic_rows(trace.notes, strategy, _SHOWN_ELSEWHERE),
    )


def _numbers(note: Note) -> list[float]:
    return [float(one) for one in note if one is not None] if isinstance(note, tuple) else []


def _is_rollout(proposal: Proposal) -> bool:
    return "rollout" in proposal.address


def _branches(drafts: list[Proposal], parents: list[int], values: list[float]) -> list[Branch]:
    """The tree: the first child goes on in the lane of its parent, the others in lanes below."""
    children: dict[int, list[int]] = {}
    for i, parent in enumerate(parents, 1):
        children.setdefault(parent, []).append(i)
    lanes, free, left = {0: 0.0}, 0, [0]
    while left:
        number = left.pop()
        below = children.get(number, [])
        for child in below:
            lanes[child] = lanes[number] if child == below[0] else float(free := free + 1)
        left += reversed(below)
    ends = [0] + [len(draft.candidate.tokens) for draft in drafts]
    return [
        Branch(
            start=ends[parent],
            end=ends[i],
            parent=lanes[parent],
            lane=lanes[i],
            kind=draft.verdict,
            tip=f"draft {i}, value {values[i - 1]:.4g}: {tooltip(draft.candidate)}",
            complete=draft.candidate.response.complete,
        )
        for i, (draft, parent) in enumerate(zip(drafts, parents, strict=True), 1)
    ]

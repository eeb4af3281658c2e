"""The tree of a search: prefixes of answers with values and visits, and which of them is next.

Nothing here is random or draws anything. A node is a prefix that was drawn, or a complete answer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from rsalign.core.types import Candidate

ROOT = 0


@dataclass(slots=True)
class Node:
    """A prefix in the tree.

    Attributes:
        candidate: the prefix with its reward; None for the root, of which nothing was drawn.
        parent: number of its parent; -1 for the root.
        value: estimate of what answers below it are worth, in units of the reward.
        visits: rounds that went through it, and 1 for its own evaluation.
        children: numbers of its children, in the order of their drafts.
        is_closed: whether there is nothing left to expand at or below it.
    """

    candidate: Candidate | None
    parent: int
    value: float = 0.0
    visits: int = 1
    children: list[int] = field(default_factory=list)
    is_closed: bool = False


@dataclass(slots=True)
class Tree:
    """All nodes, in the order in which they were drawn; the first is the root.

    Example:
        >>> from rsalign import Response, Stop
        >>> one = Candidate(Response((1,), "a", Stop.BOUNDARY), 0.5)
        >>> tree = Tree()
        >>> tree.add(ROOT, one, 0.5), tree.add(ROOT, one, 2.5)  # equal steps stay two nodes
        (1, 2)
        >>> tree.back_up(ROOT)
        >>> tree.nodes[ROOT].value, tree.select(exploration=0.0)
        (1.5, 2)
    """

    nodes: list[Node] = field(default_factory=lambda: [Node(None, -1, visits=0)])

    def add(self, parent: int, candidate: Candidate, value: float) -> int:
        """Adds a draft below a node, and returns its number. Complete and excluded ones are closed.

        An excluded draft has no value and no visits: it changes no mean.
        """
        closed = candidate.response.complete or candidate.excluded
        excluded = candidate.excluded
        node = Node(candidate, parent, 0.0 if excluded else value, 0 if excluded else 1)
        node.is_closed = closed
        self.nodes.append(node)
        self.nodes[parent].children.append(len(self.nodes) - 1)
        return len(self.nodes) - 1

    def select(self, exploration: float) -> int | None:
        """The node to expand: from the root down, the open child of greatest upper bound.

        The bound of a child is its value plus `exploration` times sqrt(2 ln N / n), where N and n
        are the visits of its parent and its own; of equal ones the first.

        Returns:
            None if nothing is left to expand.
        """
        number = ROOT
        while not self.nodes[number].is_closed:
            node = self.nodes[number]
            if not node.children:
                return number
            open_ = [i for i in node.children if not self.nodes[i].is_closed]
            log_visits = math.log(max(1, node.visits))

            def bound(i: int, log_visits: float = log_visits) -> float:
                child = self.nodes[i]
                return child.value + exploration * math.sqrt(2 * log_visits / child.visits)

            number = max(open_, key=bound)
        return None

    def back_up(self, number: int) -> None:
        """Counts a visit at a node and all above it; the value of each is that of its children.

        That is the mean over its children, weighted by their visits.
        """
        while number >= ROOT:
            node = self.nodes[number]
            node.visits += 1
            children = [self.nodes[i] for i in node.children]
            visits = sum(child.visits for child in children)
            if visits:
                node.value = math.fsum(c.value * c.visits for c in children) / visits
            node.is_closed = all(child.is_closed for child in children)
            number = node.parent

    def best_open(self, numbers: Sequence[int]) -> int | None:
        """Of these nodes the open one of greatest value, the first among equals; None: none is."""
        open_ = [i for i in numbers if not self.nodes[i].is_closed]
        return max(open_, key=lambda i: self.nodes[i].value, default=None)

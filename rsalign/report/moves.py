"""What one chain did, as its trace tells it."""

from collections.abc import Sequence
from dataclasses import dataclass

from rsalign.core.trace import Proposal, Trace, Verdict
from rsalign.core.types import Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """One chain, or one of its replicas.

    Attributes:
        steps: proposals of each step at which something was drawn, by the step's number from 1.
        num_steps: of all.
        rewards: of the states, the start included, ``(steps + 1,)``.
        exchanged: steps before which the state came from another replica.
    """

    steps: dict[int, list[Proposal]]
    num_steps: int
    rewards: tuple[float, ...]
    exchanged: frozenset[int]

    @property
    def acceptance(self) -> float:
        """Share of the steps with proposals at which one was taken."""
        return sum(taken(tries) is not None for tries in self.steps.values()) / len(self.steps)

    def ends(self, most: int) -> list[int]:
        """Numbers of the first and the last steps with proposals, so many at most."""
        numbers = sorted(self.steps)
        if len(numbers) <= most:
            return numbers
        return [*numbers[: most // 2], *numbers[-(most - most // 2) :]]


def moves(trace: Trace, num_steps: int = 0) -> Moves | None:
    """The chain of a trace; None if nothing was ever proposed.

    Args:
        trace: of one chain or replica.
        num_steps: that it made at least: the last ones may have no proposal.
    """
    steps: dict[int, list[Proposal]] = {}
    for proposal in trace.proposals:
        steps.setdefault(_number(proposal), []).append(proposal)
    if not steps:
        return None
    num_steps = max(num_steps, *steps)
    now = state(steps[min(steps)])
    rewards, exchanged = [now.reward], set()
    for step in range(1, num_steps + 1):
        if step in steps:
            before = state(steps[step])
            if before.tokens != now.tokens:
                exchanged.add(step)
            one = taken(steps[step])
            now = before if one is None else one.candidate
        rewards.append(now.reward)
    return Moves(
        steps=steps,
        num_steps=num_steps,
        rewards=tuple(rewards),
        exchanged=frozenset(exchanged),
    )


def state(tries: Sequence[Proposal]) -> Candidate:
    """What the proposals of a step would have replaced."""
    found = tries[0].state
    assert found is not None  # a step of a chain replaces its state
    return found


def taken(tries: Sequence[Proposal]) -> Proposal | None:
    """The proposal that replaced it, if one did."""
    return next((one for one in tries if one.verdict is Verdict.ACCEPTED), None)


def below(trace: Trace, role: str) -> list[tuple[int, Trace]]:
    """The traces of inner runs with this role (``"chain"``, ``"replica"``), and their numbers."""
    return [(int(path[-1]), child) for path, child in trace.children.items() if path[0] == role]


def _number(proposal: Proposal) -> int:
    """Of its step, from 1; its address has it, from 0."""
    labels = proposal.address
    at = max(i for i, label in enumerate(labels[:-1]) if label == "step")
    return int(labels[at + 1]) + 1

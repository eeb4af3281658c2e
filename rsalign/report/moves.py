"""The steps of one Markov chain, as they are read from its trace."""

from collections.abc import Sequence
from dataclasses import dataclass

from rsalign.core.trace import Proposal, Trace, Verdict
from rsalign.core.types import Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """One chain, or one of its replicas.

    Attributes:
        steps: the proposals of each step at which something was drawn, by number of the step from
            1.
        num_steps: number of all steps.
        rewards: of the states, the start included, ``(steps + 1,)``.
        exchanged: numbers of the steps before which the state came from another replica.
    """

    steps: dict[int, list[Proposal]]
    num_steps: int
    rewards: tuple[float, ...]
    exchanged: frozenset[int]

    @property
    def acceptance(self) -> float:
        """Share of the steps with proposals at which one was accepted."""
        return sum(accepted_proposal(tries) is not None for tries in self.steps.values()) / len(
            self.steps
        )

    def first_and_last(self, most: int) -> list[int]:
        """Numbers of the first and the last steps with proposals, at most `most` of them."""
        numbers = sorted(self.steps)
        if len(numbers) <= most:
            return numbers
        return [*numbers[: most // 2], *numbers[-(most - most // 2) :]]


def read_moves(trace: Trace, num_steps: int = 0) -> Moves | None:
    """Reads the steps of a chain from its trace; None if nothing was ever proposed.

    Args:
        trace: of one chain or replica.
        num_steps: that it made at least; the last ones may have no proposal.
    """
    steps: dict[int, list[Proposal]] = {}
    for proposal in trace.proposals:
        steps.setdefault(_step_number(proposal), []).append(proposal)
    if not steps:
        return None
    num_steps = max(num_steps, *steps)
    now = state_before(steps[min(steps)])
    rewards, exchanged = [now.reward], set()
    for step in range(1, num_steps + 1):
        if step in steps:
            before = state_before(steps[step])
            if before.tokens != now.tokens:
                exchanged.add(step)
            one = accepted_proposal(steps[step])
            now = before if one is None else one.candidate
        rewards.append(now.reward)
    return Moves(
        steps=steps,
        num_steps=num_steps,
        rewards=tuple(rewards),
        exchanged=frozenset(exchanged),
    )


def state_before(tries: Sequence[Proposal]) -> Candidate:
    """The state that the proposals of a step were made from."""
    found = tries[0].state
    assert found is not None  # a step of a chain replaces its state
    return found


def accepted_proposal(tries: Sequence[Proposal]) -> Proposal | None:
    """The proposal of a step that was accepted; None if none was."""
    return next((one for one in tries if one.verdict is Verdict.ACCEPTED), None)


def traces_with_label(trace: Trace, label: str) -> list[tuple[int, Trace]]:
    """The traces of inner runs with this label (``"chain"``, ``"replica"``), with their numbers."""
    return [(int(path[-1]), child) for path, child in trace.children.items() if path[0] == label]


def _step_number(proposal: Proposal) -> int:
    """The number of the proposal's step, from 1; its address has it from 0."""
    labels = proposal.address
    at = max(i for i, label in enumerate(labels[:-1]) if label == "step")
    return int(labels[at + 1]) + 1

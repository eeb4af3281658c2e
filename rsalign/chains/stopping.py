"""When the chains of a prompt have done enough."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from rsalign.chains.diagnostics import effective_samples
from rsalign.chains.kernel import Step
from rsalign.chains.leads import decided
from rsalign.core.checks import above, at_least, check_settings


@runtime_checkable
class Stopping(Protocol):
    """Says when the chains of a prompt may stop. A value; it sees only what it is given.

    Attributes:
        needs_answers: whether it votes, so that an answer must be extracted from each state.
    """

    @property
    def needs_answers(self) -> bool:
        """Whether it looks at `answers`."""
        ...

    def enough(
        self, chains: Sequence[Sequence[Step]], answers: Sequence[Sequence[str | None]]
    ) -> bool:
        """Whether it is enough after these steps.

        Args:
            chains: the steps of each that count so far, ``(chains, steps)``, at least one.
            answers: of the states after them, ``(chains, steps)``; empty unless something votes.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveSamples:
    """Enough effective samples of the reward, all chains together (bulk, rank-normalised).

    Attributes:
        at_least: such as 50.
        every: steps between two looks.

    Raises:
        ConfigError: if a setting is not above 0.
    """

    at_least: float
    every: int = 8

    needs_answers: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_settings(self, at_least=above(0.0), every=at_least(1))

    def enough(
        self, chains: Sequence[Sequence[Step]], answers: Sequence[Sequence[str | None]]
    ) -> bool:
        """Looked at now and then."""
        if len(chains[0]) % self.every:
            return False
        reached = effective_samples([[step.state.reward for step in chain] for chain in chains])
        return reached is not None and reached >= self.at_least


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedLead:
    """The most frequent answer leads all others beyond doubt (`rsalign.chains.leads.decided`).

    The test's level holds for independent votes. States of a chain are not independent: their votes
    are divided by the autocorrelation time of the leader's, as measured so far, and count as no
    more than there were whole responses: the chains' first ones, and those drawn anew from a cut
    at 0 (`restart` makes them more frequent). That leaves the level approximate, and exact with
    ``restart=1`` and a target equal to the policy.

    Attributes:
        error: the probability of stopping with an answer that is not the most probable.
        every: steps between two looks; the test allows for any number of looks.

    Raises:
        ConfigError: if `error` is not between 0 and 1, or `every` not at least 1.
    """

    error: float = 0.05
    every: int = 4

    needs_answers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_settings(self, error=above(0.0, below=1.0), every=at_least(1))

    def enough(
        self, chains: Sequence[Sequence[Step]], answers: Sequence[Sequence[str | None]]
    ) -> bool:
        """Looked at now and then."""
        if len(chains[0]) % self.every:
            return False
        # in the order in which they came, as if all chains had made each step together
        votes = [
            answer for row in zip(*answers, strict=True) for answer in row if answer is not None
        ]
        counts = Counter(votes)
        if not counts:
            return False
        leader, count = counts.most_common(1)[0]
        num_states = sum(map(len, chains))  # those that abstain are states too
        measured = effective_samples([[float(a == leader) for a in one] for one in answers])
        # what lies before all cuts has not been drawn again, however often the rest was
        renewed = len(chains) + sum(
            step.moved and step.cut == 0 for chain in chains for step in chain
        )
        time = max(1.0, num_states / min(measured or num_states, renewed))
        rivals = [other / time for answer, other in counts.items() if answer != leader]
        order = 1 + list(counts).index(leader)  # a Counter keeps the order of first appearance
        return decided([count / time, *rivals], order, self.error)


STOPPING: dict[str, type[EffectiveSamples] | type[DecidedLead]] = {
    "effective_samples": EffectiveSamples,
    "decided_lead": DecidedLead,
}
"""What the command line calls them; a class of one's own is named ``module:Class``."""

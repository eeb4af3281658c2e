"""Stopping rules: when the chains of a prompt have done enough.

>>> DecidedLead(error=0.05).decided(["4"] * 4), DecidedLead(error=0.05).decided(["4"] * 9)
(False, True)
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from rsalign.chains.diagnostics import effective_samples
from rsalign.chains.kernel import Step
from rsalign.core.checks import above, at_least, check_settings
from rsalign.selectors.leads import BetaLead, DirichletLead, Lead, is_decided


@runtime_checkable
class Stopping(Protocol):
    """A rule that says when the chains of a prompt may stop. An immutable value.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class AfterSteps:
        ...     steps: int
        ...     needs_answers: bool = False
        ...     def enough(
        ...         self, chains: Sequence[Sequence[Step]], answers: Sequence[Sequence[str | None]]
        ...     ) -> bool:
        ...         return min(map(len, chains)) >= self.steps
        >>> AfterSteps(2).enough([[], []], [])
        False
    """

    @property
    def needs_answers(self) -> bool:
        """Whether it reads `answers`, so that an answer must be extracted from each state."""
        ...

    def enough(
        self, chains: Sequence[Sequence[Step]], answers: Sequence[Sequence[str | None]]
    ) -> bool:
        """Whether the chains may stop after these steps.

        Args:
            chains: the steps of each chain that count so far, ``(chains, steps)``, at least one.
            answers: of the states after these steps, ``(chains, steps)``; empty if no answers are
                extracted.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveSamples:
    """Stops at a given effective sample size of the reward, all chains together.

    It is the bulk, rank-normalised size (`rsalign.chains.diagnostics.effective_samples`).

    Attributes:
        at_least: the effective sample size to reach, such as 50.
        every: number of steps between two looks; in long chains more (`is_due`).

    Raises:
        ConfigError: if a setting is not above 0.

    Example:
        >>> from rsalign import QAlign
        >>> strategy = QAlign(steps=200, stopping=EffectiveSamples(at_least=50))
    """

    at_least: float
    every: int = 8

    needs_answers: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_settings(self, at_least=above(0.0), every=at_least(1))

    def enough(
        self, chains: Sequence[Sequence[Step]], answers: Sequence[Sequence[str | None]]
    ) -> bool:
        """Whether the effective sample size is reached; if a look is due."""
        if not is_due(len(chains[0]), self.every):
            return False
        reached = effective_samples([[step.state.reward for step in chain] for chain in chains])
        return reached is not None and reached >= self.at_least


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedLead:
    """Stops when the most frequent answer leads all others by a sequential test (`is_decided`).

    The test's level holds for independent votes. States of a chain are not independent. Their votes
    are therefore divided by the autocorrelation time of the leader's votes, as measured so far, and
    count as at most as many as there were whole responses: the first ones of the chains, and those
    drawn anew from a cut at 0 (`MarkovChain.restart` makes them more frequent). The level is then
    approximate; it is exact with ``restart=1`` and a target equal to the policy.

    Attributes:
        error: probability of stopping with an answer that is not the most probable one.
        every: number of steps between two looks; in long chains more (`is_due`). The test allows
            for any number of looks.

    Raises:
        ConfigError: if `error` is not between 0 and 1, or `every` not at least 1.

    Example:
        >>> from rsalign import LastNumber, MajorityVote, QAlign
        >>> vote = MajorityVote(extract=LastNumber())
        >>> strategy = QAlign(steps=200, answer=vote, stopping=DecidedLead(error=0.05))
    """

    error: float = 0.05
    every: int = 4

    needs_answers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_settings(self, error=above(0.0, below=1.0), every=at_least(1))

    def enough(
        self, chains: Sequence[Sequence[Step]], answers: Sequence[Sequence[str | None]]
    ) -> bool:
        """Whether the lead is decided; if a look is due."""
        if not is_due(len(chains[0]), self.every):
            return False
        # in the order in which they came, as if all chains had made each step together
        votes = [
            answer for row in zip(*answers, strict=True) for answer in row if answer is not None
        ]
        counts = Counter(votes)
        if not counts:
            return False
        leader, count = counts.most_common(1)[0]
        num_states = sum(map(len, chains))  # states without an answer included
        measured = effective_samples([[float(a == leader) for a in one] for one in answers])
        # the tokens before all cuts have been drawn once, however often the rest was drawn anew
        renewed = len(chains) + sum(
            step.moved and step.cut == 0 for chain in chains for step in chain
        )
        time = max(1.0, num_states / min(measured or num_states, renewed))
        rivals = [other / time for answer, other in counts.items() if answer != leader]
        order = 1 + list(counts).index(leader)  # a Counter keeps the order of first appearance
        return is_decided([count / time, *rivals], order, self.error)

    def decided(self, answers: Sequence[str | None]) -> bool:
        """Whether the lead is decided among independent draws, for which the level is exact.

        The probability that this is ever true of an answer that is not the most probable one is at
        most `error`, however often one looks.

        Args:
            answers: of all draws so far, in the order of their numbers; None: no vote.
        """
        counts = Counter(answer for answer in answers if answer is not None)
        if not counts:
            return False
        leader, count = counts.most_common(1)[0]
        rivals = [other for answer, other in counts.items() if answer != leader]
        return is_decided([count, *rivals], 1 + list(counts).index(leader), self.error)


def is_due(num_steps: int, every: int) -> bool:
    """Whether a rule that looks at all steps made so far looks after this many.

    The distance between two looks is `every` steps, and doubles with the number of steps from
    ``16 * every`` on. All looks together then cost as much as some tens of looks at all steps,
    however long the chains are; looks at equal distances would cost the square of their length.

    Args:
        num_steps: that each chain has made, at least 1.
        every: least distance between two looks, in steps.

    Example:
        >>> [t for t in range(1, 128) if is_due(t, 4)][-8:]
        [64, 72, 80, 88, 96, 104, 112, 120]
        >>> is_due(144, 4), is_due(152, 4)
        (True, False)
    """
    doublings = max(0, (num_steps // (8 * every)).bit_length() - 1)
    return num_steps % (every << doublings) == 0


STOPPING: dict[str, type[EffectiveSamples] | type[DecidedLead]] = {
    "effective_samples": EffectiveSamples,
    "decided_lead": DecidedLead,
}
"""Stopping rules by their names in settings; any other class is named ``module:Class``."""

LEADS: dict[str, type[Lead]] = {
    "decided_lead": DecidedLead,
    "beta_lead": BetaLead,
    "dirichlet_lead": DirichletLead,
}
"""Rules that end a vote of independent draws, by their names in settings."""

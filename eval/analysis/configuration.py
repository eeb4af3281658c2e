"""A configuration that is compared with others: a method at one size, with its records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.records import Record
from rsalign.core.capabilities import AnswerLaw


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The records of one method at one size.

    Attributes:
        method: its name; the same for all of its sizes (`eval.analysis.naming`).
        answers: its budget, in plain answers' worth.
        strategy: as plain data.
        records: one for each item and seed, those that failed included; at least one.
    """

    method: str
    answers: int
    strategy: Mapping[str, Any]
    records: Sequence[Record]

    @property
    def name(self) -> str:
        """Method and size, such as ``BestOf @ 16``."""
        return f"{self.method} @ {self.answers}"

    @property
    def answer_law(self) -> AnswerLaw:
        """What the strategy declares of the law of its answers."""
        return AnswerLaw(self.records[0]["answer_law"])

    @property
    def independent_draws(self) -> int:
        """How many independent draws of the policy the strategy declares to take for each item."""
        return int(self.records[0]["independent_draws"])


def by_method(configurations: Sequence[Configuration]) -> dict[str, list[Configuration]]:
    """Groups configurations by method: methods by name, their sizes in ascending order."""
    methods = sorted({one.method for one in configurations})
    return {
        method: sorted(
            (one for one in configurations if one.method == method), key=lambda one: one.answers
        )
        for method in methods
    }


def best_of_n(configurations: Sequence[Configuration]) -> list[Configuration]:
    """Finds plain best-of-N, the reference of all comparisons, in ascending order of size.

    Of several such methods (other settings of the same) the first by name; empty if none was run.
    """
    for sizes in by_method(configurations).values():
        if sizes[0].answer_law is AnswerLaw.BEST_OF:
            return sizes
    return []


def largest_pool(configurations: Sequence[Configuration]) -> Configuration | None:
    """Finds the configuration with the most independent draws of the policy, all with rewards.

    None if no configuration has a pool.
    """
    pools = [
        one
        for one in configurations
        if one.answer_law in (AnswerLaw.BEST_OF, AnswerLaw.POOL)
        and one.independent_draws
        and any(c["reward"] for record in one.records for c in record["candidates"])
    ]
    return max(
        pools,
        key=lambda one: (one.independent_draws, one.answer_law is AnswerLaw.BEST_OF),
        default=None,
    )

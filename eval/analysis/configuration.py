"""A configuration that is compared with others: a method at one size, with its records."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.records import Record
from rsalign.core.capabilities import AnswerLaw


@dataclass(frozen=True, slots=True, order=True)
class Size:
    """How much a method may spend, in ascending order.

    Attributes:
        limits: the hard limits of a budget, by name and in order of name; empty if there are none.
        answers: plain answers' worth.

    Examples:
        >>> str(Size((), 16)), str(Size((("policy_tokens", 60),), 16))
        ('16', '16, policy_tokens=60')
    """

    limits: tuple[tuple[str, float], ...]
    answers: int

    @classmethod
    def of(cls, budget: Mapping[str, Any]) -> "Size":
        """Reads it from the budget of a configuration."""
        limits = {name: one for name, one in (budget["limit"] or {}).items() if one is not None}
        numbers = [(name, one) for name, one in sorted(limits.items()) if _is_number(one)]
        return cls(tuple(numbers), int(budget["answers"]))

    @property
    def limited_by(self) -> tuple[str, ...]:
        """The names of its hard limits."""
        return tuple(name for name, _ in self.limits)

    def __str__(self) -> str:
        return ", ".join([str(self.answers), *(f"{name}={one:g}" for name, one in self.limits)])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The records of one method at one size.

    Attributes:
        method: its name; the same for all of its sizes (`eval.analysis.naming`).
        size: its budget.
        strategy: as plain data.
        records: one for each item and seed, those that failed included; at least one.
    """

    method: str
    size: Size
    strategy: Mapping[str, Any]
    records: Sequence[Record]

    @property
    def name(self) -> str:
        """Method and size, such as ``BestOf @ 16``."""
        return f"{self.method} @ {self.size}"

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
            (one for one in configurations if one.method == method), key=lambda one: one.size
        )
        for method in methods
    }


def best_of_n(
    configurations: Sequence[Configuration],
) -> dict[tuple[str, ...], list[Configuration]]:
    """Finds plain best-of-N, the reference of all comparisons.

    A method that a hard limit ends is compared with best-of-N that ends at such a limit too.

    Returns:
        Its sizes in ascending order, by the names of the hard limits. Of several such methods
        (other settings of the same) the one whose settings are the fewest, then the first by name;
        without one that such limits end there is no entry.
    """
    found: dict[tuple[str, ...], list[Configuration]] = {}
    for sizes in sorted(by_method(configurations).values(), key=_plainness):
        if sizes[0].answer_law is AnswerLaw.BEST_OF:
            found.setdefault(sizes[0].size.limited_by, sizes)
    return found


def _plainness(sizes: Sequence[Configuration]) -> tuple[int, str]:
    return len(json.dumps(sizes[0].strategy)), sizes[0].method


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

"""Allocation: how one call shares draws among its prompts."""

from dataclasses import dataclass, field

from rsalign.allocation.rules import AllocationRule, Uniform
from rsalign.core.checks import at_least, check_settings, part


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """How a call shares draws among its prompts: ``Aligner.generate(allocation=Allocation(...))``.

    Attributes:
        rule: says which prompt draws next.
        total: draws of all prompts together; None: the strategy's ``n`` for each prompt on average.
        at_least: draws of each prompt before the rule decides.
        batch: draws between two decisions of the rule; None: as many as there are prompts.

    Raises:
        ConfigError: if a number is out of its range, or `rule` has no `urgency`.

    Example:
        >>> from rsalign.allocation import Blend
        >>> Allocation(rule=Blend(), total=64).at_least
        1
    """

    rule: AllocationRule = field(default_factory=Uniform)
    total: int | None = None
    at_least: int = 1
    batch: int | None = None

    def __post_init__(self) -> None:
        check_allocation(self)


def check_allocation(settings: object) -> None:
    """Refuses settings of an allocation that are out of range (`check_settings`)."""
    check_settings(
        settings,
        None,
        rule=part("a rule of allocation, such as Uniform() or Blend()"),
        total=at_least(1, note="None means the strategy's n for each prompt"),
        at_least=at_least(1),
        batch=at_least(1, note="None means as many as there are prompts"),
    )

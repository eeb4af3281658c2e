"""Reads how a call shares draws among its prompts."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from rsalign.allocation import Allocation, AllocationRule
from rsalign.core.checks import quote
from rsalign.core.errors import ConfigError
from rsalign.core.protocols import Strategy
from rsalign.strategies.allocated import Allocated
from rsalign.strategies.best_of import BestOf
from rsalign.words.build import build_part

AllocationLike: TypeAlias = Allocation | AllocationRule | str | Mapping[str, Any]
"""An `Allocation`; a rule, or the name of one; or settings: ``{"rule": "blend", "total": 64}``."""


def allocated(strategy: Strategy, allocation: AllocationLike) -> Allocated:
    """The strategy, with draws that are shared among the prompts of the call.

    Args:
        strategy: a `BestOf`.
        allocation: how.

    Raises:
        ConfigError: if the strategy's pool cannot grow, or the allocation cannot be read.

    Example:
        >>> from rsalign import BestOf
        >>> allocated(BestOf(n=8), {"rule": "by_acceptance", "total": 64}).rule
        ByAcceptance(threshold=0.0, alpha=0.0, b=1.0)
    """
    if not isinstance(strategy, BestOf):
        raise ConfigError(
            f"allocation={quote(allocation)} with strategy={quote(strategy)}: an allocation says "
            "how many candidates each prompt has, so the strategy must be BestOf(...)"
        )
    settings: Mapping[str, Any]
    if isinstance(allocation, Allocation):
        names = ("rule", "total", "at_least", "batch")
        settings = {name: getattr(allocation, name) for name in names}
        return Allocated(inner=strategy, **settings)
    if isinstance(allocation, Mapping):
        settings = allocation
    elif isinstance(allocation, str | AllocationRule):
        settings = {"rule": allocation}
    else:
        raise ConfigError(
            f"allocation={quote(allocation)}: give an Allocation(...), a rule such as Blend(), or "
            "the name of one"
        )
    made: Allocated = build_part("strategy", "allocated", {**settings, "inner": strategy})
    return made

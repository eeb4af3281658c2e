"""What the strategies and selectors of records declare about themselves.

A record has a strategy as plain data, each part with the name of its ``class``. Here these names
are looked up in the registries of rsalign, so that analysis asks what a class declares
(`rsalign.core.capabilities`) and never compares names. A class that is not registered declares
nothing.
"""

from collections.abc import Mapping
from typing import Any

from rsalign.core import capabilities
from rsalign.core.capabilities import KLSource
from rsalign.selectors import SELECTORS
from rsalign.strategies import STRATEGIES

_CLASSES: Mapping[str, type] = {
    known.__name__: known for known in (*STRATEGIES.values(), *SELECTORS.values())
}


def class_named(name: Any) -> type | None:
    """The registered strategy or selector of this class name; None if there is none."""
    return _CLASSES.get(name) if isinstance(name, str) else None


def kl_source(strategy: Mapping[str, Any]) -> KLSource | None:
    """How the divergence of the answer's law from the policy is known.

    That of a pool whose candidates are not draws of the policy is not: its notes refer to the law
    of the inner strategy.
    """
    source = capabilities.kl_source(class_named(strategy.get("class")))
    if source == "pool" and not draws_from_policy(strategy.get("inner", {})):
        return None
    return source


def draws_from_policy(strategy: Mapping[str, Any]) -> bool:
    """Whether the strategy's answers are draws of the policy."""
    return capabilities.kl_source(class_named(strategy.get("class"))) == "policy"


def is_pool_of_draws(strategy: Mapping[str, Any]) -> bool:
    """Whether candidates are n independent draws of the policy, of which one is selected."""
    return kl_source(strategy) == "pool" and not may_stop_early(strategy)


def may_stop_early(strategy: Mapping[str, Any]) -> bool:
    """Whether the number of draws depends on the draws."""
    return capabilities.stops_early(class_named(strategy.get("class")))


def chooses_by_position(selector: Mapping[str, Any]) -> bool:
    """Whether the selector looks at positions alone, so that a chosen state has the chain's law."""
    return capabilities.chooses_by_position(class_named(selector.get("class")))


def takes_highest_reward(selector: Mapping[str, Any]) -> bool:
    """Whether the selector takes the candidate with the highest reward."""
    return capabilities.takes_highest_reward(class_named(selector.get("class")))

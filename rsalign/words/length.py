"""The greatest length of a strategy's answers, wherever in it that is set."""

from dataclasses import is_dataclass, replace
from typing import Any

from rsalign.core.errors import ConfigError
from rsalign.core.nesting import inner_strategies, setting_names, walk_strategies
from rsalign.core.protocols import Strategy


def with_max_tokens(strategy: Strategy, max_tokens: int) -> Strategy:
    """The same strategy, and all inside it, with another bound of the whole response.

    Raises:
        ConfigError: if it has no such parameter.
    """
    if not any(_has_limit(one) for one in walk_strategies(strategy)):
        raise ConfigError(
            f"{type(strategy).__name__} has no max_tokens to set from sampling_params: set its "
            "length in the strategy, and leave sampling_params=None"
        )
    limited: Strategy = _limited(strategy, max_tokens)
    return limited


def _limited(strategy: Any, max_tokens: int) -> Any:
    if not is_dataclass(type(strategy)):  # it cannot be copied with another length
        return strategy
    changes: dict[str, Any] = {
        name: _limited(inner, max_tokens) for name, inner in inner_strategies(strategy).items()
    }
    if _has_limit(strategy):
        changes["max_tokens"] = max_tokens
    return replace(strategy, **changes) if changes else strategy


def _has_limit(strategy: Any) -> bool:
    return is_dataclass(type(strategy)) and "max_tokens" in setting_names(strategy)

"""The greatest length of a strategy's answers, wherever in it that is set."""

from dataclasses import is_dataclass, replace
from typing import Any

from rsalign.core.errors import ConfigError
from rsalign.core.nesting import inner_strategies, setting_names, walk_strategies
from rsalign.core.protocols import Strategy

_DEFAULT = 256


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


def greatest_length(strategy: Strategy) -> int:
    """The greatest number of tokens of an answer; of parts that differ, the greatest.

    Example:
        >>> from rsalign import BestOf, Plain
        >>> greatest_length(BestOf(n=2, inner=Plain(max_tokens=5)))
        5
    """
    lengths = [getattr(one, "max_tokens", None) for one in walk_strategies(strategy)]
    return max((one for one in lengths if isinstance(one, int)), default=_DEFAULT)


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

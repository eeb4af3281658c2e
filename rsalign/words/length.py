"""The greatest length of a strategy's answers, wherever in it that is set."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

from rsalign.core.errors import ConfigError
from rsalign.core.protocols import Strategy


def with_max_tokens(strategy: Strategy, max_tokens: int) -> Strategy:
    """The same strategy, and all inside it, with another bound of the whole response.

    Raises:
        ConfigError: if it has no such parameter.
    """
    limited = _limited(strategy, max_tokens)
    if limited is strategy and not _has_limit(strategy):
        raise ConfigError(
            f"{type(strategy).__name__} has no max_tokens to set from sampling_params: set its "
            "length in the strategy, and leave sampling_params=None"
        )
    return limited


def _limited(strategy: Any, max_tokens: int) -> Strategy:
    changes = {
        field.name: max_tokens
        if field.name == "max_tokens"
        else _limited(getattr(strategy, field.name), max_tokens)
        for field in fields(strategy)
        if field.name == "max_tokens" or _is_strategy(getattr(strategy, field.name))
    }
    limited: Strategy = replace(strategy, **changes) if changes else strategy
    return limited


def _has_limit(strategy: Any) -> bool:
    return any(
        field.name == "max_tokens"
        or (
            _is_strategy(getattr(strategy, field.name))
            and _has_limit(getattr(strategy, field.name))
        )
        for field in fields(strategy)
    )


def _is_strategy(value: Any) -> bool:
    return is_dataclass(value) and not isinstance(value, type) and hasattr(value, "sample")

"""The strategy of one request; nothing is imported for a request."""

from collections.abc import Mapping
from typing import Any

from rsalign.core.errors import ConfigError
from rsalign.core.protocols import Strategy
from rsalign.hooks.shared.arguments import is_guidance, known_keys
from rsalign.words.messages import show_name
from rsalign.words.read import NO_STRATEGY, PREFIX, STRATEGY, Specification, is_ours


def requested(asked: Specification | None, default: Strategy | None) -> Strategy | None:
    """The strategy of a request; None for the engine's own sampling.

    Args:
        asked: what the request says; None: nothing.
        default: the strategy of a request that names none, and what a strategy of its class has
            where nothing is set; None: such requests go to the engine.

    Raises:
        ConfigError: if a name, a parameter or a value is not known or not allowed.
    """
    asked = asked or Specification()
    if asked.name == NO_STRATEGY or (asked.name is None and default is None):
        _refuse_words(asked)
        return None
    strategy = asked.strategy(default, own_classes=False)
    refuse_lengths(strategy, asked.settings)
    return strategy


def refuse_lengths(strategy: Strategy, settings: Mapping[str, Any]) -> None:
    """Refuses bounds of responses inside a strategy: those of the request would replace them.

    Raises:
        ConfigError: naming the setting.
    """
    for key in settings:
        *path, last = key.split(".")
        owner: Any = strategy
        for part in path:
            owner = getattr(owner, part, None)
        if last == "max_tokens" and hasattr(owner, "sample"):
            raise ConfigError(
                f"{key}: the length of a response is bounded as a whole; give max_tokens"
            )


def refuse_others(extra_args: Mapping[str, Any] | None) -> None:
    """Refuses keys of `extra_args` that a strategy cannot honour.

    Raises:
        ConfigError: naming the first.
    """
    for key in others(extra_args):
        if not is_guidance(key):
            raise ConfigError(
                f"extra_args has {show_name(str(key))}: a strategy takes {STRATEGY!r} and "
                f"{PREFIX}... for its parameters; for the engine's own sampling give "
                f"{STRATEGY!r}: {NO_STRATEGY!r}"
            )


def one_seed(of_request: int | None, of_words: int | None) -> int | None:
    """The seed of a request, which may give it in a field of its own or among our words.

    Raises:
        ConfigError: if both are given and differ.
    """
    if None not in (of_request, of_words) and of_request != of_words:
        raise ConfigError(
            f"the request gives two seeds, {of_request} as its own field and {of_words} as "
            f"{PREFIX}seed: give one"
        )
    return of_words if of_request is None else of_request


def others(extra_args: Mapping[str, Any] | None) -> dict[str, Any]:
    """The keys of `extra_args` that name no strategy and no parameter of one."""
    return {key: value for key, value in (extra_args or {}).items() if not is_ours(key)}


def without_strategy(extra_args: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What is left for the engine of a request that wants no strategy."""
    return others(extra_args) or None


def _refuse_words(asked: Specification) -> None:
    """Refuses what is for a strategy in a request that goes to the engine itself."""
    for word in asked.given():
        why = (
            f"{STRATEGY}={NO_STRATEGY!r} asks for the engine's own sampling"
            if asked.name == NO_STRATEGY
            else "the request names no strategy, and there is no default"
        )
        raise ConfigError(
            f"{show_name(word)} is given, but {why}: name a strategy (best_of, cards, qalign and "
            f"others: docs/methods.md); for the engine itself there are only {known_keys()}"
        )

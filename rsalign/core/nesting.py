"""Walks over a strategy and the strategies inside it.

A strategy may have other strategies as settings: ``BestOf(inner=Cards(...))``. Whoever needs
something of all of them (the greatest response length, the meaning of notes) walks with these
functions instead of a recursion of its own.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any


def is_strategy(value: object) -> bool:
    """Whether a value is a strategy: an object, not a class, with a method `sample`."""
    return not isinstance(value, type) and callable(getattr(value, "sample", None))


def setting_names(part: object) -> tuple[str, ...]:
    """The names of the settings of a strategy, a selector or any other part.

    These are the fields of a dataclass, and the attributes in ``__dict__`` of any other object.
    """
    if dataclasses.is_dataclass(part):
        return tuple(field.name for field in dataclasses.fields(part))
    return tuple(getattr(part, "__dict__", ()))


def inner_strategies(strategy: object) -> dict[str, Any]:
    """The strategies that a strategy has as settings, by the name of the setting.

    Example:
        >>> from rsalign import BestOf, Plain
        >>> inner_strategies(BestOf(n=2, inner=Plain(max_tokens=5)))
        {'inner': Plain(max_tokens=5, measured=False)}
    """
    settings = ((name, getattr(strategy, name, None)) for name in setting_names(strategy))
    return {name: value for name, value in settings if is_strategy(value)}


def walk_strategies(strategy: object) -> Iterator[Any]:
    """A strategy and all strategies inside it, each before those that it holds.

    Example:
        >>> from rsalign import BestOf, Plain
        >>> [type(one).__name__ for one in walk_strategies(BestOf(inner=BestOf(inner=Plain())))]
        ['BestOf', 'BestOf', 'Plain']
    """
    yield strategy
    for inner in inner_strategies(strategy).values():
        yield from walk_strategies(inner)

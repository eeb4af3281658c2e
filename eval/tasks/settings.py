"""Checks that tasks share."""

from collections import Counter
from collections.abc import Iterable, Sequence

from eval.tasks.protocol import Item
from rsalign import ConfigError


def require_one_of(name: str, value: str, allowed: Iterable[str]) -> None:
    """Refuses a setting that is none of `allowed`.

    Raises:
        ConfigError: if so.
    """
    allowed = tuple(allowed)
    if value not in allowed:
        raise ConfigError(f"{name}={value!r}: choose one of {', '.join(map(repr, allowed))}")


def distinct(items: Sequence[Item]) -> Sequence[Item]:
    """The items, if no two share an id.

    Raises:
        ConfigError: if two do.
    """
    twice = [id for id, count in Counter(item.id for item in items).items() if count > 1]
    if twice:
        raise ConfigError(
            f"{len(twice)} ids occur more than once, the first is {twice[0]!r}: results are kept "
            "by id, so give a file in which they differ"
        )
    return items

"""Names of configurations: what tells each from the others it is compared with, and no more.

A method is a strategy at any size; what its budget sets is no part of its name.
"""

import json
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

Leaves: TypeAlias = Mapping[str, str]
"""Settings by their path, such as ``select.class``, as JSON text."""

_USUAL = "Plain"


def name_methods(strategies: Sequence[Mapping[str, Any]], sizes: Sequence[Hashable]) -> list[str]:
    """Names the method of each configuration.

    It begins with the classes: the strategy's own, those it holds that differ between strategies
    of that class, and what it wraps unless that is `Plain`. The settings follow that differ
    between configurations of these classes and do not follow from the size.

    Args:
        strategies: as plain data with a ``class`` in every part, ``(configurations,)``.
        sizes: what their budgets are, ``(configurations,)``.

    Returns:
        Names, ``(configurations,)``; equal where only the size differs.
    """
    leaves = [_leaves(strategy) for strategy in strategies]
    names = [""] * len(leaves)
    for kind, alike in _kinds(leaves, range(len(leaves)), ""):
        told = [
            path for path in _varying(leaves, alike) if not _follows(path, leaves, alike, sizes)
        ]
        for i in alike:
            settings = [f"{path}={_word(leaves[i].get(path, 'none'))}" for path in told]
            names[i] = ", ".join([kind, *settings])
    return names


def _kinds(
    leaves: Sequence[Leaves], members: Sequence[int], name: str
) -> Iterator[tuple[str, Sequence[int]]]:
    """Those of the same classes in every part, named by the classes that tell them apart."""
    paths = [path for path in _varying(leaves, members) if path.split(".")[-1] == "class"]
    if not name:
        paths.append("class")
    if not paths:
        yield name, members
        return
    path = min(paths, key=lambda path: path.count("."))  # what holds a part comes before it
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for i in members:
        groups[_word(leaves[i].get(path, ""))].append(i)
    for word, group in groups.items():
        longer = f"{name} {word}".strip()
        if path == "class":
            wrapped = {_word(leaves[i].get("inner.class", _USUAL)) for i in group}
            longer += _brackets(wrapped.pop()) if len(wrapped) == 1 else ""
        elif path == "inner.class":
            longer = name + _brackets(word)
        yield from _kinds(leaves, group, longer)


def _brackets(inner: str) -> str:
    return "" if inner == _USUAL else f"({inner})"


def _varying(leaves: Sequence[Leaves], members: Sequence[int]) -> list[str]:
    """The settings that are not the same in all of these, in order."""
    paths = dict.fromkeys(path for i in members for path in leaves[i])
    return [path for path in paths if len({leaves[i].get(path) for i in members}) > 1]


def _follows(
    path: str, leaves: Sequence[Leaves], members: Sequence[int], sizes: Sequence[Hashable]
) -> bool:
    """Tells whether the size determines the setting."""
    values = {(sizes[i], leaves[i].get(path)) for i in members}
    return len(values) == len({sizes[i] for i in members})


def _word(value: str) -> str:
    return value.strip('"')


def _leaves(node: Any, path: str = "") -> dict[str, str]:
    if isinstance(node, Mapping):
        found: dict[str, str] = {}
        for name, value in node.items():
            found |= _leaves(value, f"{path}.{name}" if path else name)
        return found
    if isinstance(node, list | tuple) and any(isinstance(each, Mapping) for each in node):
        return _leaves({str(i): each for i, each in enumerate(node)}, path)
    return {path: json.dumps(node)}

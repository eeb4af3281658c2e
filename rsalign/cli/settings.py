"""Strategies from names and ``key=value`` settings, with errors that name what is possible."""

import ast
import difflib
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from rsalign.errors import ConfigError
from rsalign.protocols import Strategy
from rsalign.strategies import STRATEGIES


def parse(settings: Iterable[str]) -> dict[str, Any]:
    """``["n=8", "inner.max_tokens=64"]`` as a dictionary with Python values.

    Raises:
        ConfigError: if one is not of the form ``key=value``.
    """
    parsed: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise ConfigError(f"--set {setting!r}: give name=value, such as --set n=8")
        try:
            parsed[name] = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            parsed[name] = value  # a bare word is a string
    return parsed


def build_strategy(name: str, settings: Mapping[str, Any]) -> Strategy:
    """A strategy by name; ``inner=cards`` and ``inner.n=4`` reach into one that it wraps.

    Raises:
        ConfigError: if there is no such strategy or parameter; the nearest name is suggested.
    """
    kind = _strategy_class(name)
    known = [field.name for field in fields(kind) if field.init]
    arguments: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        head, dot, rest = key.partition(".")
        if head not in known:
            raise ConfigError(f"strategy {name} has no parameter {head!r}{suggest(head, known)}")
        if dot:
            nested.setdefault(head, {})[rest] = value
        else:
            arguments[head] = value
    for head in set(nested) | {key for key, value in arguments.items() if value in STRATEGIES}:
        arguments[head] = build_strategy(arguments.get(head, "plain"), nested.get(head, {}))
    try:
        strategy: Strategy = kind(**arguments)
    except TypeError as error:
        raise ConfigError(f"strategy {name}: {error}") from error
    return strategy


def suggest(wrong: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest name, and all there are."""
    names = sorted(known)
    near = difflib.get_close_matches(wrong, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{hint} (known: {', '.join(names)})"


def _strategy_class(name: str) -> Any:
    if name in STRATEGIES:
        return STRATEGIES[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ConfigError(
            f"no strategy is called {name!r}{suggest(name, STRATEGIES)}; your own: module:Class"
        )
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"cannot load strategy {name!r}: {error}") from error
    if not (isinstance(kind, type) and is_dataclass(kind) and hasattr(kind, "sample")):
        raise ConfigError(f"{name} is not a strategy: give a dataclass with `sample`")
    return kind

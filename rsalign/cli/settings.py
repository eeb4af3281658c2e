"""Strategies from names and ``key=value`` settings, with errors that name what is possible.

A setting with dots reaches into a part: ``inner.n=4``, ``select.extract=last_number``,
``select.extract.marker=Answer:``, ``threshold.target=1.5``.
"""

import ast
import difflib
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from rsalign.errors import ConfigError
from rsalign.protocols import Strategy
from rsalign.rules.acceptance import ACCEPTANCES
from rsalign.rules.extraction import EXTRACTORS
from rsalign.rules.thresholds import THRESHOLDS
from rsalign.rules.utilities import UTILITIES
from rsalign.segmenters import Entropy, FixedSize, Punctuation
from rsalign.selectors import SELECTORS
from rsalign.strategies import STRATEGIES


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a setting can name.

    Attributes:
        word: what messages call it.
        known: those with a name of their own.
        method: what a class of the caller's own must have.
        default: the one that settings refer to if none is named; empty: there is none.
        plain: whether its own parameters are plain values. A segmenter's ``threshold`` is a
            number, not a part.
    """

    word: str
    known: Mapping[str, Any]
    method: str
    default: str = ""
    plain: bool = False


_SEGMENTERS = {"fixed_size": FixedSize, "entropy": Entropy, "punctuation": Punctuation}
_STRATEGY = _Kind("strategy", STRATEGIES, "sample", "plain")
_PARTS = {
    "select": _Kind("selector", SELECTORS, "select", "hard"),
    "extract": _Kind("extractor", EXTRACTORS, "__call__"),
    "utility": _Kind("utility", UTILITIES, "__call__"),
    "judge": _Kind("judge", {}, "prefer"),
    "segmenter": _Kind("segmenter", _SEGMENTERS, "ends_before", "fixed_size", plain=True),
    "threshold": _Kind("threshold", THRESHOLDS, "at", "line", plain=True),
    "acceptance": _Kind("acceptance", ACCEPTANCES, "log_accept", "soft", plain=True),
}
"""By the name of the parameter; any other parameter that names a strategy is one."""


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
        ConfigError: if there is no such strategy, part or parameter; the nearest name is
            suggested.
    """
    strategy: Strategy = _build(_STRATEGY, name, settings)
    return strategy


def suggest(wrong: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest name, and all there are."""
    names = sorted(known)
    if not names:
        return " (there are none)"
    near = difflib.get_close_matches(wrong, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{hint} (known: {', '.join(names)})"


def _build(kind: _Kind, name: str, settings: Mapping[str, Any]) -> Any:
    made = _find(kind, name)
    if not isinstance(made, type):  # a function of the caller's own
        if settings:
            raise ConfigError(
                f"{kind.word} {name} is a function, which has no parameter {next(iter(settings))!r}"
            )
        return made
    known = [field.name for field in fields(made) if field.init]
    arguments: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        head, dot, rest = key.partition(".")
        if head not in known:
            raise ConfigError(f"{kind.word} {name} has no parameter {head!r}{suggest(head, known)}")
        if dot:
            nested.setdefault(head, {})[rest] = value
        else:
            arguments[head] = value
    for head in dict.fromkeys([*arguments, *nested]):
        part, value = _PARTS.get(head, _STRATEGY), arguments.get(head)
        strategy = kind is _STRATEGY and isinstance(value, str) and value in STRATEGIES
        if head in nested or (head in _PARTS and not kind.plain) or strategy:
            named = _named(part, head, arguments.get(head, part.default))
            arguments[head] = _build(part, named, nested.get(head, {}))
    try:
        return made(**arguments)
    except TypeError as error:
        raise ConfigError(f"{kind.word} {name}: {error}") from error


def _named(part: _Kind, parameter: str, name: Any) -> str:
    if not isinstance(name, str) or not name:
        given = f"{parameter}={name!r}" if name else f"no {parameter}= is given"
        raise ConfigError(
            f"{given}: name the {part.word}{suggest('', part.known)}; your own: module:Class"
        )
    return name


def _find(kind: _Kind, name: str) -> Any:
    """The class (or for parts that are called, the function) of a name."""
    if name in kind.known:
        return kind.known[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ConfigError(
            f"no {kind.word} is called {name!r}{suggest(name, kind.known)}; your own: module:Class"
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"cannot load {kind.word} {name!r}: {error}") from error
    if not isinstance(found, type):
        if kind.method == "__call__" and callable(found):
            return found
    elif is_dataclass(found) and any(kind.method in vars(base) for base in found.__mro__):
        return found
    or_function = " or a function" if kind.method == "__call__" else ""
    raise ConfigError(
        f"{name} is not a {kind.word}: give a dataclass with `{kind.method}`{or_function}"
    )

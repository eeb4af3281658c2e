"""Strategies from names and settings, with errors that name what is possible.

A setting with dots reaches into a part: ``inner.n``, ``select.extract``, ``threshold.target``.
"""

import difflib
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, get_args

from rsalign.chains.stopping import STOPPING
from rsalign.cuts import CUTS
from rsalign.errors import ConfigError
from rsalign.protocols import Strategy
from rsalign.rules.acceptance import ACCEPTANCES
from rsalign.rules.extraction import EXTRACTORS
from rsalign.rules.temperatures import BETA_RULES
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
    "answer": _Kind("selector", SELECTORS, "select", "last"),
    "cuts": _Kind("cut law", CUTS, "weights", "uniform"),
    "stopping": _Kind("stopping rule", STOPPING, "enough"),
    "beta": _Kind("rule for beta", BETA_RULES, "beta"),
    "extract": _Kind("extractor", EXTRACTORS, "__call__"),
    "utility": _Kind("utility", UTILITIES, "__call__"),
    "judge": _Kind("judge", {}, "prefer"),
    "segmenter": _Kind("segmenter", _SEGMENTERS, "ends_before", "fixed_size", plain=True),
    "threshold": _Kind("threshold", THRESHOLDS, "at", "line", plain=True),
    "acceptance": _Kind("acceptance", ACCEPTANCES, "log_accept", "soft", plain=True),
}
"""By the name of the parameter; any other parameter that names a strategy is one."""
_PLAIN = {bool: bool, int: int, float: int | float, str: str}
"""What a parameter declared as a plain value takes."""
_VALUES: Mapping[Any, str] = {int: "16", float: "1.0", str: "TEXT"}
"""Examples, by declared type."""
_SETTINGS = {
    "segmenter": "segmenter.n=16",
    "threshold": "threshold.target=1.5",
    "extract": "extract=last_number",
    "select": "select=majority_vote",
}
"""Examples of what names a part, by parameter; any other part is shown by its first name."""
_NUMBERS = tuple[float, ...]
"""A parameter declared as this takes a list, or text such as ``2,4,inf``."""


def build_strategy(
    name: str | None,
    settings: Mapping[str, Any],
    *,
    default: Strategy | None = None,
    own_classes: bool = True,
) -> Strategy:
    """A strategy by name; ``inner=cards`` and ``inner.n=4`` reach into one that it wraps.

    Args:
        name: a known strategy, or ``module:Class`` of one's own; None: the default's.
        settings: values of its parameters, and of its parts' parameters.
        default: a strategy; if it is of the kind that is named, what is not set is as in it.
        own_classes: whether strategy and parts may be named ``module:Class``, which is code that
            gets imported. Not for settings that come from elsewhere.

    Raises:
        ConfigError: if there is no such strategy, part or parameter; the nearest name is
            suggested.
    """
    builder = _Builder(own_classes)
    if name is None and default is not None:
        return builder.changed(_STRATEGY, default, settings)  # type: ignore[no-any-return]
    return builder.build(_STRATEGY, name or "", settings, default)  # type: ignore[no-any-return]


def suggest(wrong: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest name, and all there are."""
    names = sorted(known)
    if not names:
        return " (there are none)"
    near = difflib.get_close_matches(wrong, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{hint} (known: {', '.join(names)})"


@dataclass(frozen=True, slots=True)
class _Builder:
    """Strategies and their parts; see `build_strategy`."""

    own_classes: bool

    def build(self, kind: _Kind, name: str, settings: Mapping[str, Any], default: Any) -> Any:
        """One by name; what is not set is as in `default`, if that is of the same kind."""
        made = _find(kind, name, own_classes=self.own_classes)
        if isinstance(made, type):
            kept = _values(default) if type(default) is made else {}
            return self._make(kind, name, made, settings, kept)
        if settings:  # a function
            raise ConfigError(
                f"{kind.word} {name} is a function, which has no parameter {next(iter(settings))!r}"
            )
        return made

    def changed(self, kind: _Kind, part: Any, settings: Mapping[str, Any]) -> Any:
        """The same with other settings."""
        made = type(part)
        name = next((name for name, known in kind.known.items() if known is made), made.__name__)
        return self._make(kind, name, made, settings, _values(part))

    def _make(
        self,
        kind: _Kind,
        name: str,
        made: type,
        settings: Mapping[str, Any],
        kept: Mapping[str, Any],
    ) -> Any:
        known = {field.name: field.type for field in fields(made) if field.init}
        arguments: dict[str, Any] = {}
        nested: dict[str, dict[str, Any]] = {}
        for key, value in settings.items():
            head, dot, rest = key.partition(".")
            if head not in known:
                raise ConfigError(
                    f"{kind.word} {name} has no parameter {head!r}{suggest(head, known)}"
                )
            if dot:
                nested.setdefault(head, {})[rest] = value
            else:
                arguments[head] = _plain(f"{kind.word} {name}: {head}", value, known[head])
        for head in dict.fromkeys([*arguments, *nested]):
            part, value = _PARTS.get(head, _STRATEGY), arguments.get(head)
            if head not in nested and _is_value(value, known[head]):
                continue
            is_name = kind is _STRATEGY and isinstance(value, str)
            strategy = is_name and (value in STRATEGIES or known[head] is Strategy)
            if head not in arguments and is_dataclass(kept.get(head)):
                arguments[head] = self.changed(part, kept[head], nested[head])
            elif head in nested or (head in _PARTS and not kind.plain) or strategy:
                named = _named(part, head, arguments.get(head, part.default))
                arguments[head] = self.build(part, named, nested.get(head, {}), kept.get(head))
        arguments = dict(kept) | arguments
        for field in fields(made):
            required = field.default is MISSING and field.default_factory is MISSING
            if field.init and required and field.name not in arguments:
                raise ConfigError(
                    f"{kind.word} {name} needs {field.name!r}: give it, such as "
                    f"{_example(field.name, field.type)}"
                )
        try:
            return made(**arguments)
        except TypeError as error:
            raise ConfigError(f"{kind.word} {name}: {error}") from error


def _values(part: Any) -> dict[str, Any]:
    return {field.name: getattr(part, field.name) for field in fields(part) if field.init}


def _example(parameter: str, declared: Any) -> str:
    """A setting that gives a parameter a value."""
    if declared in _VALUES:
        return f"{parameter}={_VALUES[declared]}"
    if parameter in _SETTINGS:
        return _SETTINGS[parameter]
    known = _PARTS.get(parameter, _STRATEGY).known
    fitting = [name for name, made in known.items() if made is declared] or sorted(known)
    return f"{parameter}={next(iter(fitting), 'module:Class')}"


def _plain(what: str, value: Any, declared: Any) -> Any:
    """A value as it is; refused if it is none of the declared plain type."""
    if declared == _NUMBERS:
        return _numbers(what, value)
    allowed = _PLAIN.get(declared)
    is_bool = isinstance(value, bool)
    if allowed is not None and (not isinstance(value, allowed) or is_bool != (declared is bool)):
        raise ConfigError(f"{what}={value!r}: must be of type {declared.__name__}")
    return value


def _numbers(what: str, given: Any) -> tuple[float, ...]:
    items = given.split(",") if isinstance(given, str) else given
    try:
        return tuple(map(float, items if isinstance(items, list | tuple) else (items,)))
    except (TypeError, ValueError):
        raise ConfigError(f"{what}={given!r}: give numbers, such as 2,4,inf") from None


def _is_value(given: Any, declared: Any) -> bool:
    """Whether a parameter takes what is given as it is: it names no part then."""
    kinds = (declared, *get_args(declared))
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    return type(given) in kinds or (is_number and float in kinds)


def _named(part: _Kind, parameter: str, name: Any) -> str:
    if not isinstance(name, str) or not name:
        given = f"{parameter}={name!r}" if name else f"no {parameter}= is given"
        raise ConfigError(
            f"{given}: name the {part.word}{suggest('', part.known)}; your own: module:Class"
        )
    return name


def _find(kind: _Kind, name: str, *, own_classes: bool) -> Any:
    """The class (or for parts that are called, the function) of a name."""
    if name in kind.known:
        return kind.known[name]
    module, colon, attribute = name.partition(":")
    if not (colon and own_classes):
        hint = "; your own: module:Class" if own_classes else ""
        raise ConfigError(f"no {kind.word} is called {name!r}{suggest(name, kind.known)}{hint}")
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

"""Strategies and their parts from names and settings, with errors that name what is possible.

A setting with dots reaches into a part: ``inner.n``, ``select.extract``, ``threshold.target``.
"""

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any

from rsalign.core.declared import declared_types
from rsalign.core.errors import ConfigError
from rsalign.core.protocols import Strategy
from rsalign.words.load import is_reference, load
from rsalign.words.messages import clip, guess, show, suggest
from rsalign.words.registry import KINDS, Kind, default_of, kind_of
from rsalign.words.values import convert, example, takes

NAME = "name"
"""The key that names the part in an object of its settings: ``{"name": "soft", ...}``."""


def build_strategy(
    name: str | None,
    settings: Mapping[str, Any],
    *,
    default: Strategy | None = None,
    own_classes: bool = True,
) -> Strategy:
    """A strategy by name; ``inner=cards`` and ``inner.n=4`` reach into one that it wraps.

    Args:
        name: a known strategy, or ``module:name`` of a class or an instance of one's own; None:
            the default's.
        settings: values of its parameters, and of its parts' parameters, by dotted name.
        default: a strategy; if it is of the class that is named, what is not set is as in it.
        own_classes: whether strategy and parts may be named ``module:name``, which is code that
            gets imported. Not for settings that come from elsewhere.

    Raises:
        ConfigError: if there is no such strategy, part or parameter; the nearest name is
            suggested.

    Example:
        >>> build_strategy("best_of", {"n": "8", "select": "soft", "select.temperature": 0.5})
        BestOf(n=8, inner=Plain(max_tokens=256, measured=False), select=Soft(temperature=0.5))
    """
    return build_part("strategy", name, settings, default=default, own_classes=own_classes)  # type: ignore[no-any-return]


def build_part(
    kind: str,
    name: str | None,
    settings: Mapping[str, Any],
    *,
    default: Any = None,
    own_classes: bool = True,
) -> Any:
    """A part of any kind in `KINDS`; see `build_strategy`."""
    builder = _Builder(own_classes)
    if name is None and default is not None:
        return builder.change(KINDS[kind], default, settings)
    return builder.build(KINDS[kind], name or "", settings, default)


def construct(made: type, values: Mapping[str, Any]) -> Any:
    """An object of a dataclass from values of its fields, of which each is converted.

    Args:
        made: a dataclass.
        values: by field; a part is an object, a name, or a mapping of `NAME` and settings.

    Raises:
        ConfigError: as `build_strategy`.
    """
    kind = next((one for one in KINDS.values() if made in one.known.values()), None)
    word = made.__name__ if kind is None else kind.word
    name = "" if kind is None else _name_of(kind, made)
    return _Builder(own_classes=True).make(f"{word} {name}".strip(), made, values, {})


@dataclass(frozen=True, slots=True)
class _Builder:
    """Makes strategies and their parts; see `build_strategy`."""

    own_classes: bool

    def build(self, kind: Kind, name: str, settings: Mapping[str, Any], default: Any) -> Any:
        """A part by name; what is not set is as in `default`, if that is of the same class."""
        found = _find(kind, name, own_classes=self.own_classes)
        if isinstance(found, type):
            kept = _values(default) if type(default) is found else {}
            return self.make(f"{kind.word} {name}", found, settings, kept)
        if settings and is_dataclass(found):
            return self.change(kind, found, settings)
        if settings:
            a = "a function" if hasattr(found, "__code__") else "an object"
            raise ConfigError(
                f"{kind.word} {name} is {a}, which has no parameter {next(iter(settings))!r}"
            )
        return found

    def change(self, kind: Kind, part: Any, settings: Mapping[str, Any]) -> Any:
        """The same part with other settings."""
        what = f"{kind.word} {_name_of(kind, type(part))}"
        return self.make(what, type(part), settings, _values(part))

    def make(
        self, what: str, made: type, settings: Mapping[str, Any], kept: Mapping[str, Any]
    ) -> Any:
        """An object of a dataclass.

        Args:
            what: it is, for messages.
            made: its class.
            settings: by dotted name.
            kept: what is not set.
        """
        types = declared_types(made)
        known = {field.name: field for field in fields(made) if field.name in types}
        own: dict[str, Any] = {}
        nested: dict[str, dict[str, Any]] = {}
        for key, value in settings.items():
            head, dot, rest = key.partition(".")
            if head not in known:
                raise ConfigError(
                    f"{what} has no parameter {show_name(head)}{suggest(head, known)}"
                )
            if dot:
                nested.setdefault(head, {})[rest] = value
            else:
                own[head] = value
        values = dict(kept)
        for head in dict.fromkeys([*own, *nested]):
            values[head] = self._value(
                what,
                known[head],
                types[head],
                given=own.get(head, MISSING),
                settings=nested.get(head, {}),
                kept=kept.get(head),
            )
        for name, field in known.items():
            required = field.default is MISSING and field.default_factory is MISSING
            if required and name not in values:
                raise ConfigError(
                    f"{what} needs {name!r}: give it, such as {_example(field, types[name])}"
                )
        try:
            return made(**values)
        except TypeError as error:
            raise ConfigError(f"{what}: {error}") from error

    def _value(
        self,
        what: str,
        field: "Field[Any]",
        declared: Any,
        *,
        given: Any,
        settings: Mapping[str, Any],
        kept: Any,
    ) -> Any:
        """The value of one field, from what is given for it and for parameters below it."""
        kind, where = kind_of(field, declared), f"{what}: {field.name}"
        if isinstance(given, Mapping):
            settings = {key: value for key, value in given.items() if key != NAME} | {**settings}
            given = given.get(NAME, MISSING)
            if given is MISSING and (kind is None or not settings):
                given = {}
        if kind is None:
            if settings:
                raise ConfigError(
                    f"{where} has no parameter {show_name(next(iter(settings)))}: it is a value "
                    "and not a part"
                )
            return convert(where, given, declared)
        if given is MISSING:
            part = kept if is_dataclass(kept) else default_of(field)
            if is_dataclass(part):
                return self.change(kind, part, settings)
            given = _only_one(kind, declared) or kind.default
            said = f"no {field.name}= is given"
        elif not settings and takes(declared, given):
            return convert(where, given, declared)
        elif not isinstance(given, str) and _is_one(given, kind):
            return self.change(kind, given, settings) if settings else given
        else:
            said = f"{field.name}={show(given)}"
        name = guess(given) if isinstance(given, str) else given
        if not isinstance(name, str) or not name.strip():
            raise ConfigError(
                f"{what}: {said}: name the {kind.word}{suggest('', kind.known)}"
                f"{_own_hint(own_classes=self.own_classes)}"
            )
        return self.build(kind, name.strip(), settings, kept)


def show_name(name: str) -> str:
    """A name that is not known, as a message shows it."""
    return clip(repr(name[:81]), 80)


def _values(part: Any) -> dict[str, Any]:
    return {field.name: getattr(part, field.name) for field in fields(part) if field.init}


def _name_of(kind: Kind, made: type) -> str:
    return next((name for name, known in kind.known.items() if known is made), made.__name__)


def _example(field: "Field[Any]", declared: Any) -> str:
    """A setting that gives a field a value."""
    if value := example(declared):
        return f"{field.name}={value}"
    kind = kind_of(field, declared)
    if kind is not None and (only := _only_one(kind, declared)):
        return f"{field.name}={only}"
    if kind is not None and kind.example:
        return kind.example.format(field.name)
    return f"{field.name}=module:Class"


def _only_one(kind: Kind, declared: Any) -> str:
    """The name of the class that a field is declared as; empty if it takes any of the kind."""
    return next((name for name, made in kind.known.items() if made is declared), "")


def _own_hint(*, own_classes: bool) -> str:
    return "; your own: module:name" if own_classes else ""


def _is_one(value: Any, kind: Kind) -> bool:
    """Whether a value is a part of this kind, and no class of one."""
    return not isinstance(value, type) and callable(getattr(value, kind.method, None))


def _find(kind: Kind, name: str, *, own_classes: bool) -> Any:
    """The class (or for parts that are called, the function) of a name, or a part that exists."""
    if name in kind.known:
        return kind.known[name]
    if not (own_classes and is_reference(name)):
        raise ConfigError(
            f"no {kind.word} is called {show_name(name)}{suggest(name, kind.known)}"
            f"{_own_hint(own_classes=own_classes)}"
        )
    found = load(kind.word, name)
    if isinstance(found, type):
        if is_dataclass(found) and any(kind.method in vars(base) for base in found.__mro__):
            return found
    elif _is_one(found, kind):
        return found
    or_function = ", or a function" if kind.method == "__call__" else ""
    raise ConfigError(
        f"{name} is not a {kind.word}: give a dataclass with `{kind.method}`, or an object of "
        f"one{or_function}"
    )

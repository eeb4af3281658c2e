"""Builds strategies, rewards and their parts from names and settings.

A setting with dots reaches into a part: ``inner.n``, ``select.extract``, ``threshold.target``. A
whole number reaches into a list of parts: ``rewards.0.scale``. Errors name what is possible.
"""

import collections.abc
import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, get_origin

from rsalign.core.errors import ConfigError
from rsalign.core.protocols import Strategy
from rsalign.rewards.parts import close_all
from rsalign.words.messages import guess, show, show_name, suggest
from rsalign.words.models import is_reference, load
from rsalign.words.registry import (
    KINDS,
    Kind,
    Parameter,
    check_spelling,
    has_method,
    item_types,
    kind_of,
    members,
    parameters,
    takes_any_name,
    takes_mapping,
)
from rsalign.words.values import convert, example_of, is_no_part, only_choice

NAME = "name"
"""The key that names the part in an object of its settings: ``{"name": "soft", ...}``."""
DRAWING_POLICY = "policy"
"""The name, inside a reward, of the policy that draws the answers."""


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
        default: settings that are not given are as in this strategy, if it is of the named class.
        own_classes: whether settings may name what is not part of the package: code as
            ``module:name``, which is imported, and models and servers. False for settings that come
            from a request.

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
    """A part of any kind in `KINDS`; see `build_strategy`.

    An engine that is started for a part (a judge's model, say) runs until the process ends.
    """
    builder = PartBuilder(own_classes)
    if name is None and default is not None:
        return builder.change(KINDS[kind], default, settings)
    return builder.build(KINDS[kind], name or "", settings, default)


def start_part(
    kind: str,
    name: str,
    settings: Mapping[str, Any],
    policy: Callable[[], Any] | None = None,
) -> tuple[Any, tuple[Any, ...]]:
    """A part, and the policies that were started for it; the caller closes them.

    Args:
        kind: one of `KINDS`.
        name: of a part of this kind.
        settings: as in `build_strategy`.
        policy: returns the policy that draws the answers; called only if the part needs it.

    Raises:
        ConfigError: as `build_strategy`. Whatever was started is closed then.
    """
    builder = PartBuilder(own_classes=True, drawing_policy=policy)
    try:
        part = builder.build(KINDS[kind], name, settings, None)
    except BaseException:
        close_all(builder.started.values())
        raise
    return part, tuple(one for one in builder.started.values() if one is not part)


def construct(made: type, values: Mapping[str, Any]) -> Any:
    """An object of a dataclass from values of its fields, of which each is converted.

    Args:
        made: a dataclass.
        values: by field; a part is an object, a name, or a mapping of `NAME` and settings.

    Raises:
        ConfigError: as `build_strategy`.
    """
    kind = next((one for one in KINDS.values() if made in one.known.values()), None)
    what = made.__name__ if kind is None else f"{kind.word} {_name_of(kind, made)}"
    return PartBuilder(own_classes=True).make(what, made, values, {})


@dataclass(frozen=True, slots=True)
class PartBuilder:
    """Builds parts; see `build_strategy` and `start_part`.

    Attributes:
        own_classes: see `build_strategy`.
        drawing_policy: see `start_part`.
        started: policies by name and settings: parts that name the same model share its engine.
    """

    own_classes: bool
    drawing_policy: Callable[[], Any] | None = None
    started: dict[str, Any] = field(default_factory=dict)

    def build(self, kind: Kind, name: str, settings: Mapping[str, Any], default: Any) -> Any:
        """A part by name; settings that are not given are as in `default`, if it has the class."""
        if kind.operators_only and not self.own_classes:
            raise ConfigError(
                f"a request cannot name a {kind.word}: it can be set where the server is started, "
                "as a part of it (--part) whose name a request may give"
            )
        if kind.word == "policy":
            return self._policy(kind, name, settings)
        found = self._find(kind, name)
        if kind.make is not None and isinstance(found, str):
            return kind.make(found, {word: _meant(value) for word, value in settings.items()})
        if isinstance(found, type) or (name in kind.known and not is_dataclass(found)):
            kept = _values(default) if type(default) is found and is_dataclass(found) else {}
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
        self,
        what: str,
        made: Callable[..., Any],
        settings: Mapping[str, Any],
        kept: Mapping[str, Any],
    ) -> Any:
        """Calls a class, or a function that makes a part, with its settings.

        Args:
            what: the part, for messages.
            made: the class or function.
            settings: by dotted name.
            kept: values of arguments that are not set.
        """
        known, is_open = parameters(made), takes_any_name(made)
        own: dict[str, Any] = {}
        nested: dict[str, dict[str, Any]] = {}
        for key, value in settings.items():
            head, dot, rest = key.partition(".")
            if head not in known and is_open:
                own[key] = _meant(value)
                continue
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
            if head not in known:
                values[head] = own[head]
                continue
            values[head] = self._value(
                f"{what}: {head}",
                known[head],
                given=own.get(head, MISSING),
                settings=nested.get(head, {}),
                kept=kept.get(head),
            )
        for name, parameter in known.items():
            if name in values or not parameter.required:
                continue
            if name == "decode" and self.drawing_policy is not None:
                values[name] = self.drawing_policy().text
            else:
                raise ConfigError(
                    f"{what} needs {name!r}: give it, such as {example_of(parameter)}"
                )
        try:
            return made(**values)
        except TypeError as error:
            raise ConfigError(f"{what}: {error}") from error

    def _value(
        self,
        where: str,
        parameter: Parameter,
        *,
        given: Any,
        settings: Mapping[str, Any],
        kept: Any = None,
    ) -> Any:
        """The value of one argument, from what is given for it and for parameters below it."""
        kind, name = kind_of(parameter), parameter.name
        what = where.removesuffix(f": {name}")
        items = () if kind is not None else item_types(parameter.declared)
        if isinstance(given, Mapping):
            settings = {key: value for key, value in given.items() if key != NAME} | {**settings}
            given = given.get(NAME, MISSING)
            if given is MISSING and not items and (kind is None or not settings):
                given = {}
        if items:
            return self._items(where, items, given, settings)
        if kind is None:
            if settings and given in (MISSING, {}) and takes_mapping(parameter.declared):
                return self._plain(where, dict(settings), parameter.declared)
            if settings:
                raise ConfigError(
                    f"{where} has no parameter {show_name(next(iter(settings)))}: it is a value "
                    "and not a part"
                )
            return self._plain(where, given, parameter.declared)
        if given is MISSING:
            part = kept if is_dataclass(kept) else parameter.default
            if is_dataclass(part):
                return self.change(kind, part, settings)
            given = only_choice(kind, parameter.declared) or kind.default
            said = f"no {name}= is given"
        elif not settings and is_no_part(kind, parameter, given):
            return convert(where, given, parameter.declared)
        elif not isinstance(given, str) and _is_one(given, kind):
            return self.change(kind, given, settings) if settings else given
        else:
            said = f"{name}={show(given)}"
        name = guess(given) if isinstance(given, str) else given
        if isinstance(name, Mapping) and name:  # an object as text
            return self._value(where, parameter, given=name, settings=settings, kept=kept)
        if not isinstance(name, str) or not name.strip():
            raise ConfigError(
                f"{what}: {said}: name the {kind.word}{suggest('', kind.known)}"
                f"{self._own_hint(kind)}"
            )
        return self.build(kind, name.strip(), settings, kept)

    def _items(
        self, where: str, types: tuple[Any, ...], given: Any, settings: Mapping[str, Any]
    ) -> tuple[Any, ...]:
        """A list of parts: as a list, as names with commas, or by position (``rewards.0``)."""
        if isinstance(given, str):
            meant = guess(given)
            is_list = isinstance(meant, list | tuple)
            given = meant if is_list else [name for name in given.split(",") if name.strip()]
        if given is MISSING:
            given = []
        elif not isinstance(given, list | tuple):
            raise ConfigError(f"{where}={show(given)}: give a list")
        own: dict[str, Any] = {str(i): value for i, value in enumerate(given)}
        nested: dict[str, dict[str, Any]] = {}
        for key, value in settings.items():
            place, dot, rest = key.partition(".")
            if dot:
                nested.setdefault(place, {})[rest] = value
            else:
                own[place] = value
        places = {*own, *nested}
        if places != {str(i) for i in range(len(places))}:
            found = ", ".join(sorted(places))
            raise ConfigError(f"{where} has the places {found}: count them 0, 1, ... without a gap")
        of_any_length = types[-1] is ...
        if not of_any_length and len(places) != len(types):
            raise ConfigError(f"{where} has {len(places)} items: give {len(types)}")
        return tuple(
            self._value(
                f"{where}.{i}",
                Parameter(str(i), types[0 if of_any_length else i]),
                given=own.get(str(i), MISSING),
                settings=nested.get(str(i), {}),
            )
            for i in range(len(places))
        )

    def _plain(self, where: str, given: Any, declared: Any) -> Any:
        """A value that is not a part; ``module:name`` where a function is expected."""
        if self.own_classes and isinstance(given, str) and is_reference(given.strip()):
            kinds = {get_origin(one) or one for one in members(declared)}
            if collections.abc.Callable in kinds:
                return load(where, given.strip())
        return convert(where, given, declared)

    def _own_hint(self, kind: Kind) -> str:
        if not self.own_classes:
            return ""
        return "; your own: module:name" + (", or the path of a file" if kind.read else "")

    def _policy(self, kind: Kind, name: str, settings: Mapping[str, Any]) -> Any:
        if name == DRAWING_POLICY:
            if self.drawing_policy is None:
                raise ConfigError(
                    f"{name!r} stands for the policy that draws the answers, which is not known "
                    "here: name a model"
                )
            return self.drawing_policy()
        key = repr((name, sorted(settings.items(), key=lambda one: one[0])))
        if key not in self.started:
            if name in kind.known:
                made = self.make(f"policy {name}", kind.known[name], settings, {})
            else:
                assert kind.make is not None
                made = kind.make(name, {word: _meant(value) for word, value in settings.items()})
            self.started[key] = made
        return self.started[key]

    def _find(self, kind: Kind, name: str) -> Any:
        """The class, function or part of a name; the text itself where `Kind.make` reads it."""
        if name in kind.known:
            return kind.known[name]
        if kind.make is not None:
            check_spelling(kind, name)
            return name
        if not (self.own_classes and is_reference(name)):
            if kind.read is not None and self.own_classes and _is_path(name):
                return kind.read(name)
            raise ConfigError(
                f"no {kind.word} is called {show_name(name)}{suggest(name, kind.known)}"
                f"{self._own_hint(kind)}"
            )
        found = load(kind.word, name)
        if isinstance(found, type):
            if is_dataclass(found) and has_method(found, kind):
                return found
        elif _is_one(found, kind):
            return found
        or_function = ", or a function" if "__call__" in kind.methods else ""
        raise ConfigError(
            f"{name} is not a {kind.word}: give a dataclass with `{kind.methods[0]}`, or an object "
            f"of one{or_function}"
        )


def _is_path(text: str) -> bool:
    """Whether a text is meant as the path of a file, which need not exist."""
    return "/" in text or "." in text or os.path.exists(text)


def _meant(value: Any) -> Any:
    return guess(value) if isinstance(value, str) else value


def _values(part: Any) -> dict[str, Any]:
    return {each.name: getattr(part, each.name) for each in fields(part) if each.init}


def _name_of(kind: Kind, made: type) -> str:
    return next((name for name, known in kind.known.items() if known is made), made.__name__)


def _is_one(value: Any, kind: Kind) -> bool:
    """Whether a value is a part of this kind, and no class of one."""
    return not isinstance(value, type) and has_method(value, kind)

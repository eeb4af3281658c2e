"""Converts values to the declared types of settings, for `rsalign.core.checks`."""

import functools
import inspect
import math
import numbers
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import (
    Annotated,
    Any,
    Literal,
    Protocol,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

_LONGEST = 80  # characters of a value that a message shows
_MOST_BITS = 4095  # of a seed: Python writes no whole number of more than 4300 digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """The allowed values of a setting, within its declared type.

    The bounds apply to a number, to the length of a string, and to each item of a tuple. Created by
    `rsalign.core.checks.at_least`, `above` and `part`; the default is `FINITE`.

    Attributes:
        low: the least value.
        high: the greatest value.
        excludes_low: whether the value must be above `low`.
        excludes_high: whether the value must be below `high`.
        infinity: whether infinity is allowed. NaN is always refused.
        any_size: whether a whole number may have more than the 64 bits that engines and numeric
            arrays can hold.
        words: how messages describe an object, such as "a segmenter, such as FixedSize(8)".
        note: text that is added to messages: a unit, or what a special value means.

    Example:
        >>> one_to_four = Allowed(low=1, high=4)
        >>> one_to_four.holds(4), one_to_four.holds(5), one_to_four.text
        (True, False, ' between 1 and 4')
    """

    low: float = -math.inf
    high: float = math.inf
    excludes_low: bool = False
    excludes_high: bool = False
    infinity: bool = False
    any_size: bool = False
    words: str = ""
    note: str = ""

    def holds(self, value: float) -> bool:
        """Whether a number is within the bounds."""
        if math.isinf(value) and not self.infinity:
            return False
        above = value > self.low if self.excludes_low else value >= self.low
        below = value < self.high if self.excludes_high else value <= self.high
        return above and below

    @property
    def text(self) -> str:
        """The bounds in words, such as " of at least 1"; empty if there are none."""
        low, high = f"{self.low:.12g}", f"{self.high:.12g}"
        closed = not self.excludes_low and not self.excludes_high
        if closed and self.low > -math.inf and self.high < math.inf:
            return f" between {low} and {high}"
        bounds = []
        if self.low > -math.inf:
            bounds.append(f"above {low}" if self.excludes_low else f"of at least {low}")
        if self.high < math.inf:
            bounds.append(f"below {high}" if self.excludes_high else f"at most {high}")
        return f" {' and '.join(bounds)}" if bounds else ""


FINITE = Allowed()
"""Allows any finite number, any string and any object of the declared type."""


def quote(value: object, *, longest: int = _LONGEST) -> str:
    """Quotes a value in a message: returns its ``repr`` in one line, shortened to `longest`."""
    return in_one_line(value, repr, longest=longest)


def in_one_line(value: object, form: Callable[[Any], str], *, longest: int = _LONGEST) -> str:
    """Formats a value with `form` as one line of at most `longest` characters, safe to write."""
    try:
        text = form(value)
    except Exception:  # noqa: BLE001 - a foreign class; an integer of more than 4300 digits
        return f"<{type(value).__name__}>"
    text = " ".join(text.split())
    text = text.encode(errors="backslashreplace").decode()  # a lone surrogate cannot be encoded
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


class RefusalError(Exception):
    """A value is of another type or out of range; the text is added to the message."""


def convert_value(given: object, kind: Any, allowed: Allowed) -> Any:
    """Converts a given value to the declared type `kind`.

    Raises:
        RefusalError: if it is of another type or out of range.
    """
    origin = get_origin(kind)
    if kind in _TAKEN:
        return _TAKEN[kind](_plain(given), allowed)
    if origin is Annotated:
        return convert_value(given, get_args(kind)[0], allowed)
    if origin is Literal:
        return _choice(_plain(given), get_args(kind))
    if origin in (Union, types.UnionType):
        return _one_of(given, get_args(kind), allowed)
    if origin in (tuple, Sequence):
        return _items(given, origin, get_args(kind), allowed)
    if origin is Callable:
        return _called(given)
    if (origin or kind) is type:
        return _class(given)
    if isinstance(origin or kind, type) and (origin or kind) is not object:
        return _instance(given, origin or kind)
    return given  # Any, object, type variables


def _whole(given: object, allowed: Allowed) -> int:
    if isinstance(given, bool) or not isinstance(given, numbers.Integral):
        raise RefusalError
    value = int(given)
    bits = _MOST_BITS if allowed.any_size else 63
    if value.bit_length() > bits:
        raise RefusalError(f" that fits into {bits + 1} bits")
    # compared as it is: it may be too large for a float
    if not (value > allowed.low if allowed.excludes_low else value >= allowed.low):
        raise RefusalError
    if not (value < allowed.high if allowed.excludes_high else value <= allowed.high):
        raise RefusalError
    return value


def _number(given: object, allowed: Allowed) -> float:
    if isinstance(given, bool) or not isinstance(given, numbers.Real | Decimal):
        raise RefusalError
    try:
        value = float(given)
    except (OverflowError, ValueError):  # a whole number beyond 1e308, a signalling NaN
        raise RefusalError from None
    if not allowed.holds(value):
        raise RefusalError
    return value


def _flag(given: object, allowed: Allowed) -> bool:
    if not isinstance(given, bool):
        raise RefusalError
    return given


def _text(given: object, allowed: Allowed) -> str:
    if not isinstance(given, str) or not allowed.holds(len(given)):
        raise RefusalError
    return given


def _none(given: object, allowed: Allowed) -> None:
    if given is not None:
        raise RefusalError


_TAKEN: Mapping[Any, Callable[[object, Allowed], Any]] = {
    int: _whole,
    float: _number,
    bool: _flag,
    str: _text,
    type(None): _none,
    None: _none,
}


def _choice(given: object, choices: tuple[object, ...]) -> object:
    for choice in choices:
        if type(given) is type(choice) and given == choice:
            return choice
    raise RefusalError


def _one_of(given: object, kinds: tuple[Any, ...], allowed: Allowed) -> object:
    refusals = []
    for kind in kinds:
        try:
            return convert_value(given, kind, allowed)
        except RefusalError as refusal:
            refusals.append(str(refusal))
    raise RefusalError(max(refusals, key=len))


def _items(given: object, origin: type, kinds: tuple[Any, ...], allowed: Allowed) -> object:
    if is_foreign(given) and hasattr(given, "tolist"):
        given = given.tolist()
    if not isinstance(given, Sequence) or isinstance(given, str | bytes | bytearray):
        raise RefusalError
    if origin is tuple and (len(kinds) < 2 or kinds[1] is not Ellipsis):
        if len(given) != len(kinds):
            raise RefusalError
        each = kinds
    else:
        each = (kinds[0] if kinds else Any,) * len(given)
    items = tuple(_item(i, *one, allowed) for i, one in enumerate(zip(given, each, strict=True)))
    same = isinstance(given, tuple) and all(a is b for a, b in zip(given, items, strict=True))
    return given if same else items


def _item(index: int, given: object, kind: Any, allowed: Allowed) -> object:
    try:
        return convert_value(given, kind, allowed)
    except RefusalError as refusal:
        raise RefusalError(f"{refusal} (item {index} is {quote(given)})") from None


def _called(given: object) -> object:
    if isinstance(given, type) and given.__module__ != "builtins":  # `str` is a function, too
        raise RefusalError(" (an instance, not the class)")
    if not callable(given):
        raise RefusalError
    return given


def _class(given: object) -> object:
    if not isinstance(given, type):
        raise RefusalError
    return given


def _instance(given: object, kind: type) -> object:
    if isinstance(given, type):
        raise RefusalError(" (an instance, not the class)")
    if getattr(kind, "_is_protocol", False):
        missing = _missing(given, kind)
        # a value without any member was not meant to implement the protocol
        if missing and len(missing) < len(_members(kind)):
            raise RefusalError(f" (this one has no {', '.join(missing)})")
        if missing:
            raise RefusalError
    elif not isinstance(given, kind):
        raise RefusalError
    return given


@functools.cache
def _members(protocol: type) -> Mapping[str, bool]:
    """Returns the names of a protocol's members, each with whether it is a method."""
    members: dict[str, bool] = {}
    for base in protocol.__mro__:
        if not getattr(base, "_is_protocol", False) or base is Protocol:
            continue
        for name, member in vars(base).items():
            if name == "__call__" or not name.startswith("_"):
                members.setdefault(name, callable(member))
        for name in inspect.get_annotations(base):
            members.setdefault(name, False)
    return members


def _missing(given: object, protocol: type) -> list[str]:
    """Returns the members of a protocol that a value lacks."""
    missing = []
    for name, is_method in _members(protocol).items():
        # looked up in the class first, so that a property is not computed
        found = next((vars(base)[name] for base in type(given).__mro__ if name in vars(base)), None)
        if is_method:
            has = callable(found) or callable(getattr(given, name, None))
        else:
            has = found is not None or hasattr(given, name)
        if not has:
            missing.append(name)
    return missing


def describe_type(kind: Any, allowed: Allowed) -> str:
    """Describes the allowed values of a setting in words."""
    kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    return ", or ".join(dict.fromkeys(_named(each, allowed) for each in kinds))


def _named(kind: Any, allowed: Allowed) -> str:
    """Describes one type in words."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _named(get_args(kind)[0], allowed)
    if kind is int:
        return f"a whole number{allowed.text}"
    if kind is float:
        bounded = allowed.infinity or (allowed.low > -math.inf and allowed.high < math.inf)
        infinite = " (infinity is allowed)" if allowed.infinity else ""
        return f"a {'' if bounded else 'finite '}number{allowed.text}{infinite}"
    if kind is bool:
        return "True or False"
    if kind is str:
        return "a non-empty string" if allowed.low > 0 else "a string"
    if kind in (None, type(None)):
        return "None"
    if origin is Literal:
        *others, last = map(repr, get_args(kind))
        return f"{', '.join(others)} or {last}" if others else last
    if origin in (tuple, Sequence):
        return _several(get_args(kind), allowed)
    if allowed.words:
        return allowed.words
    if origin is Callable:
        return "a function"
    if (origin or kind) is type:
        return "a class"
    name = getattr(origin or kind, "__name__", str(kind))
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def _several(kinds: tuple[Any, ...], allowed: Allowed) -> str:
    if len(kinds) == 2 and kinds[1] is not Ellipsis:
        return (
            f"a pair of {describe_type(kinds[0], allowed)} and {describe_type(kinds[1], allowed)}"
        )
    return f"a tuple in which each item is {describe_type(kinds[0], allowed)}"


def _plain(value: object) -> object:
    """Converts a number or string of another library to the plain Python one."""
    if is_foreign(value) and getattr(value, "ndim", None) == 0:
        return value.item()  # type: ignore[attr-defined]
    if isinstance(value, str) and type(value) is not str:
        return str(value)
    return value


def is_foreign(value: object) -> bool:
    """Whether a value is a number, string or array of NumPy; does not import NumPy."""
    return type(value).__module__ == "numpy"


@functools.cache
def declared_types(owner: type) -> Mapping[str, Any]:
    """Returns the declared type of each field that is an argument of ``__init__``."""
    try:
        hints = get_type_hints(owner)
    except NameError:  # a user's class may name types that only a type checker imports
        hints = {}
    return {
        field.name: hints.get(field.name, Any if isinstance(field.type, str) else field.type)
        for field in fields(owner)
        if field.init
    }

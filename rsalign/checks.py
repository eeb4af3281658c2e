"""One set of checks for settings and for what a reward returns.

`check_settings` is called in the ``__post_init__`` of every frozen dataclass of settings. It reads
the types that the fields are declared with, refuses values of another type or out of range with one
form of message, and replaces number types of other libraries by plain Python numbers, so that equal
settings are equal, have one ``repr`` and can be pickled and written as JSON.

    >>> @dataclass(frozen=True)
    ... class Search:
    ...     width: int = 4
    ...     beta: float = 1.0
    ...
    ...     def __post_init__(self) -> None:
    ...         check_settings(self, width=at_least(1), beta=above(0.0))
    >>> Search(width=2.5)
    Traceback (most recent call last):
    rsalign.errors.ConfigError: Search(width=2.5): give a whole number of at least 1
    >>> Search(beta=2)
    Search(width=4, beta=2.0)
"""

import functools
import inspect
import math
import numbers
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    Protocol,
    SupportsFloat,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from rsalign.errors import ConfigError, RewardError

if TYPE_CHECKING:
    from rsalign.types import Prompt, Response

_LONGEST = 80  # characters of a value that a message shows
_LARGEST = (1 << 63) - 1  # whole number: what engines, JSON readers and arrays of numbers can hold
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """Which values of its declared type a setting takes.

    Bounds are of numbers, of the length of a string, and of each item of a tuple. Made by
    `at_least`, `above` and `part`; `FINITE` is what holds where nothing is said.

    Attributes:
        low: the least value.
        high: the greatest value.
        excludes_low: whether the value must be above `low`.
        excludes_high: whether the value must be below `high`.
        infinity: whether infinity is a value. NaN never is one.
        any_size: whether a whole number may have more than 64 bits.
        words: what messages call a part, with an example: "a selector, such as Hard()".
        note: what a message adds: a unit, or what a special value means.
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
"""Any finite number of the declared type, any string, any part of the declared kind."""

SEED = Allowed(any_size=True)
"""Any whole number at all."""
REWARD = Allowed(note="in the reward's units")
"""Any finite reward."""
POSITIVE_REWARD = Allowed(low=0.0, excludes_low=True, note="in the reward's units")
"""A beta or a temperature: what divides a reward."""


def at_least(
    low: float, most: float = math.inf, *, infinity: bool = False, note: str = ""
) -> Allowed:
    """Values from `low` to `most`, both included."""
    return Allowed(low=low, high=most, infinity=infinity, note=note)


def above(
    low: float,
    most: float = math.inf,
    *,
    below: float = math.inf,
    infinity: bool = False,
    note: str = "",
) -> Allowed:
    """Values above `low`, and at most `most` or below `below`."""
    return Allowed(
        low=low,
        high=min(most, below),
        excludes_low=True,
        excludes_high=below <= most and below < math.inf,
        infinity=infinity,
        note=note,
    )


def part(words: str, note: str = "") -> Allowed:
    """A part of the declared kind, which messages call by these words."""
    return Allowed(words=words, note=note)


def check_settings(owner: object, /, **allowed: Allowed) -> None:
    """Refuses settings of a dataclass that are not of their declared type or out of range.

    Understands ``int``, ``float``, ``bool``, ``str``, ``Literal``, ``tuple``, ``Sequence``, unions,
    ``None``, functions, classes and protocols; a field of any other type is left alone. An
    ``int`` is no ``bool``; a ``float`` may be given as any real number and must be finite unless
    its range says otherwise. Values are replaced by plain Python ones where they were not.

    Args:
        owner: the dataclass instance; a frozen one too.
        **allowed: by field, what else must hold; a field that is not named takes any value of its
            type.

    Raises:
        ConfigError: names class, field and value, and says what is allowed.
        TypeError: if there is no field of a name in `allowed`.
    """
    settings: Any = type(owner)
    declared = _declared(settings)
    unknown = allowed.keys() - declared.keys()
    if unknown:
        raise TypeError(f"{type(owner).__name__} has no field {', '.join(sorted(unknown))}")
    for name, kind in declared.items():
        given = getattr(owner, name)
        value = checked(type(owner).__name__, name, given, kind, allowed.get(name, FINITE))
        if value is not given:
            object.__setattr__(owner, name, value)


def checked(owner: str, name: str, given: object, kind: Any, allowed: Allowed = FINITE) -> Any:
    """One value as `check_settings` takes it, for classes and functions with plain parameters.

    Args:
        owner: what messages call the class or function.
        name: of the parameter.
        given: its value.
        kind: its declared type.
        allowed: what else must hold.

    Returns:
        The value as a plain Python one.

    Raises:
        ConfigError: names all of these, and says what is allowed.
    """
    try:
        return _taken(given, kind, allowed)
    except _RefusalError as refusal:
        raise ConfigError(
            f"{owner}({name}={shown(given)}): give {_wanted(kind, allowed)}{refusal}"
            + (f"; {allowed.note}" if allowed.note else "")
        ) from None


def whole(owner: str, name: str, given: object, allowed: Allowed = FINITE) -> int:
    """`checked` for a whole number."""
    return cast(int, checked(owner, name, given, int, allowed))


def number(owner: str, name: str, given: object, allowed: Allowed = FINITE) -> float:
    """`checked` for a number."""
    return cast(float, checked(owner, name, given, float, allowed))


def refused(owner: object, name: str, wanted: str) -> ConfigError:
    """The error for a setting that contradicts another one, in the same form.

    Args:
        owner: has the setting.
        name: of the setting.
        wanted: what is allowed.
    """
    value = shown(getattr(owner, name))
    return ConfigError(f"{type(owner).__name__}({name}={value}): give {wanted}")


def shown(value: object) -> str:
    """A value for a message: its ``repr``, at most a line of it."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a foreign class; an integer of more than 4300 digits
        return f"<{type(value).__name__}>"
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def finite_reward(
    value: object, reward: object, prompt: "Prompt | None", response: "Response"
) -> float:
    """What a reward returned, as a finite float.

    Takes whatever ``float`` takes but text: Python and numpy numbers, True and False, tensors with
    one element. A float with more to tell (`rsalign.protocols.Scored`) comes back as it is.

    Args:
        value: what was returned.
        reward: what returned it; named in the error.
        prompt: what was answered.
        response: what was judged.

    Raises:
        RewardError: if it is not a finite number; prompt and response are attached.
    """
    found = finite_or_none(value)
    if found is None:
        raise RewardError(
            f"the reward of {shown(response.text)} by {type(reward).__name__} is {shown(value)}, "
            "but must be a finite number: mend it, or map such values before they are returned",
            prompt=prompt,
            response=response,
        )
    return found


def finite_or_none(value: object) -> float | None:
    """The value as a finite float; None if it is not one. As `finite_reward`."""
    if not isinstance(value, SupportsFloat):
        return None
    if isinstance(value, float) and not _is_foreign(value):
        found = value
    else:
        try:
            found = float(value)
        except Exception:  # noqa: BLE001 - too large, several elements, or a foreign class's own
            return None
    return found if math.isfinite(found) else None


class _RefusalError(Exception):
    """A value is not of its type, or out of range; the text is what the message adds."""


def _taken(given: object, kind: Any, allowed: Allowed) -> Any:
    """The value that a setting of this type has if it is given this one."""
    origin = get_origin(kind)
    if kind in _TAKEN:
        return _TAKEN[kind](_plain(given), allowed)
    if origin is Annotated:
        return _taken(given, get_args(kind)[0], allowed)
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
        raise _RefusalError
    value = int(given)
    if abs(value) > _LARGEST and not allowed.any_size:
        raise _RefusalError(" that fits into 64 bits")
    # compared as it is: it may be too large for a float
    if not (value > allowed.low if allowed.excludes_low else value >= allowed.low):
        raise _RefusalError
    if not (value < allowed.high if allowed.excludes_high else value <= allowed.high):
        raise _RefusalError
    return value


def _number(given: object, allowed: Allowed) -> float:
    if isinstance(given, bool) or not isinstance(given, numbers.Real | Decimal):
        raise _RefusalError
    try:
        value = float(given)
    except (OverflowError, ValueError):  # a whole number beyond 1e308, a signalling NaN
        raise _RefusalError from None
    if not allowed.holds(value):
        raise _RefusalError
    return value


def _flag(given: object, allowed: Allowed) -> bool:
    if not isinstance(given, bool):
        raise _RefusalError
    return given


def _text(given: object, allowed: Allowed) -> str:
    if not isinstance(given, str) or not allowed.holds(len(given)):
        raise _RefusalError
    return given


def _none(given: object, allowed: Allowed) -> None:
    if given is not None:
        raise _RefusalError


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
    raise _RefusalError


def _one_of(given: object, kinds: tuple[Any, ...], allowed: Allowed) -> object:
    refusals = []
    for kind in kinds:
        try:
            return _taken(given, kind, allowed)
        except _RefusalError as refusal:
            refusals.append(str(refusal))
    raise _RefusalError(max(refusals, key=len))


def _items(given: object, origin: type, kinds: tuple[Any, ...], allowed: Allowed) -> object:
    if _is_foreign(given) and hasattr(given, "tolist"):
        given = given.tolist()
    if not isinstance(given, Sequence) or isinstance(given, str | bytes | bytearray):
        raise _RefusalError
    if origin is tuple and (len(kinds) < 2 or kinds[1] is not Ellipsis):
        if len(given) != len(kinds):
            raise _RefusalError
        each = kinds
    else:
        each = (kinds[0] if kinds else Any,) * len(given)
    items = tuple(_item(i, *one, allowed) for i, one in enumerate(zip(given, each, strict=True)))
    same = isinstance(given, tuple) and all(a is b for a, b in zip(given, items, strict=True))
    return given if same else items


def _item(index: int, given: object, kind: Any, allowed: Allowed) -> object:
    try:
        return _taken(given, kind, allowed)
    except _RefusalError as refusal:
        raise _RefusalError(f"{refusal} (item {index} is {shown(given)})") from None


def _called(given: object) -> object:
    if isinstance(given, type):
        raise _RefusalError(" (an instance, not the class)")
    if not callable(given):
        raise _RefusalError
    return given


def _class(given: object) -> object:
    if not isinstance(given, type):
        raise _RefusalError
    return given


def _instance(given: object, kind: type) -> object:
    if isinstance(given, type):
        raise _RefusalError(" (an instance, not the class)")
    if getattr(kind, "_is_protocol", False):
        missing = _missing(given, kind)
        # a value that has nothing of it was not meant to be one
        if missing and len(missing) < len(_members(kind)):
            raise _RefusalError(f" (this one has no {', '.join(missing)})")
        if missing:
            raise _RefusalError
    elif not isinstance(given, kind):
        raise _RefusalError
    return given


@functools.cache
def _members(protocol: type) -> Mapping[str, bool]:
    """The members of a protocol, each with whether it is a method."""
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
    """The members of a protocol that a value lacks."""
    missing = []
    for name, is_method in _members(protocol).items():
        places = (type(given), given)  # the class first: a property is then not computed
        if is_method:
            has = any(callable(getattr(place, name, None)) for place in places)
        else:
            has = any(hasattr(place, name) for place in places)
        if not has:
            missing.append(name)
    return missing


def _wanted(kind: Any, allowed: Allowed) -> str:
    """What a setting takes, in words."""
    kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    return ", or ".join(dict.fromkeys(_named(each, allowed) for each in kinds))


def _named(kind: Any, allowed: Allowed) -> str:
    """One type in words."""
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
        return f"a pair of {_wanted(kinds[0], allowed)} and {_wanted(kinds[1], allowed)}"
    return f"a tuple in which each item is {_wanted(kinds[0], allowed)}"


def _plain(value: object) -> object:
    """A number or text of another library as the Python one that it stands for."""
    if _is_foreign(value) and getattr(value, "ndim", None) == 0:
        return value.item()  # type: ignore[attr-defined]
    if isinstance(value, str) and type(value) is not str:
        return str(value)
    return value


def _is_foreign(value: object) -> bool:
    return type(value).__module__ == "numpy"


@functools.cache
def _declared(owner: type) -> Mapping[str, Any]:
    """The declared type of each field that is given when an instance is made."""
    try:
        hints = get_type_hints(owner)
    except NameError:  # a class of the caller's own may name types that exist for a checker only
        hints = {}
    return {
        field.name: hints.get(field.name, Any if isinstance(field.type, str) else field.type)
        for field in fields(owner)
        if field.init
    }

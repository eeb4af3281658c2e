"""A value as the type that a field is declared as, whether it came as text, JSON, YAML or Python.

The language of texts:

- ``int`` and ``float``: a number as Python writes it (``16``, ``1e3``, ``inf``); a float without a
  fraction is a whole number, because several parsers make ``-1.0`` of ``-1``;
- ``bool``: ``true`` or ``false``, in any case;
- None, where it is allowed: ``none`` or ``null``, in any case;
- a tuple: ``2,4,inf``, or a list in brackets;
- a ``Literal``: one of its choices;
- ``str``: the text itself, without quotes around it if there are any.

Quotes around any other value are dropped, too: YAML and lm-eval drop them before they come here.
"""

import collections.abc
import typing
from numbers import Integral, Real
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from rsalign.core.errors import ConfigError
from rsalign.words.messages import guess, read_number, show
from rsalign.words.registry import (
    Kind,
    Parameter,
    item_types,
    kind_of,
    members,
    names_part,
    takes_part_name,
)

_WORDS: typing.Mapping[Any, str] = {NoneType: "None", bool: "bool", int: "int", float: "float"}
_EXAMPLES: typing.Mapping[Any, str] = {
    bool: "give true or false",
    int: "give a whole number, such as 16",
    float: "give a number, such as 0.5",
    str: "give text",
}
_ORDER = (NoneType, Literal, bool, int, float, tuple, str)
"""Which of a union's types is tried first: text fits `str` always, so that comes last."""
_SEQUENCES = (tuple, list, collections.abc.Sequence)


class _MisfitError(Exception):
    """A value is of no such type."""


def convert(what: str, value: Any, declared: Any) -> Any:
    """A value as a declared type.

    Args:
        what: the parameter, for the message.
        value: text, or what JSON, YAML or Python made of one.
        declared: a plain type (see above), a union of such, or any other, as which a text is what
            it looks like (`rsalign.words.messages.guess`), and everything else stays as it is.

    Raises:
        ConfigError: if the value is none of the declared plain types.

    Example:
        >>> convert("n", "4", int), convert("pool", "none", int | None)
        (4, None)
        >>> convert("tempering", "[2, inf]", tuple[float, ...])
        (2.0, inf)
    """
    types = sorted(filter(_is_plain, members(declared)), key=lambda one: _ORDER.index(_form(one)))
    bare = _without_quotes(value, declared)
    for one in types:
        try:
            return _converted(one, bare)
        except _MisfitError:
            continue
    if not types or len(types) < len(members(declared)):
        return guess(value) if isinstance(value, str) else value
    raise ConfigError(f"{what}={show(value)}: {_wanted(types)}")


def takes(declared: Any, value: Any) -> bool:
    """Whether a value fits one of the plain types among the declared ones.

    >>> takes(float | range, "0.5"), takes(float | range, "plain")
    (True, False)
    """
    bare = _without_quotes(value, declared)
    for one in filter(_is_plain, members(declared)):
        try:
            _converted(one, bare)
        except _MisfitError:
            continue
        return True
    return False


def is_no_part(kind: Kind, parameter: Parameter, given: Any) -> bool:
    """Whether a plain value is given where a part may be: a number, or the name of a run's part."""
    if takes_part_name(parameter) and isinstance(given, str):
        return names_part(kind, given.strip())
    return takes(parameter.declared, given)


def example(declared: Any) -> str:
    """A value of a declared plain type, for messages; empty if there is none."""
    shown: typing.Mapping[Any, str] = {bool: "true", int: "16", float: "1.0", str: "TEXT"}
    return next((shown[one] for one in members(declared) if one in shown), "")


def _is_plain(declared: Any) -> bool:
    return _form(declared) in _ORDER


def _form(declared: Any) -> Any:
    """What a type is converted as: one of `_ORDER`, or the type itself."""
    origin = get_origin(declared)
    if origin in _SEQUENCES or declared in _SEQUENCES:
        return tuple
    return declared if origin is None else origin


def _converted(declared: Any, value: Any) -> Any:
    form = _form(declared)
    if form is Literal:
        return _choice(get_args(declared), value)
    if form is tuple:
        return _sequence(declared, value)
    if form is str:
        return _text(value)
    return _scalar(form, value)


def _choice(choices: tuple[Any, ...], value: Any) -> Any:
    text = value.strip() if isinstance(value, str) else value
    for choice in choices:
        if type(text) is type(choice) and text == choice:
            return choice
    raise _MisfitError


def _sequence(declared: Any, value: Any) -> Any:
    items = value
    if isinstance(value, str):
        inside = value.strip()
        if inside[:1] + inside[-1:] in ("[]", "()"):
            inside = inside[1:-1]
        items = [item for item in inside.split(",") if item.strip()]
    elif _is_number(value):
        items = [value]
    if not isinstance(items, list | tuple):
        raise _MisfitError
    inner = get_args(declared)
    if _is_pairwise(inner):
        if len(items) != len(inner):
            raise _MisfitError
        return tuple(_first(one, item) for one, item in zip(inner, items, strict=True))
    made = [_first(inner[0], item) if inner else item for item in items]
    return made if (get_origin(declared) or declared) is list else tuple(made)


def _is_pairwise(inner: tuple[Any, ...]) -> bool:
    """Whether a tuple has a type for each place, such as ``tuple[int, float]``."""
    return len(inner) > 1 and inner[-1] is not Ellipsis


def _first(declared: Any, value: Any) -> Any:
    if not all(map(_is_plain, members(declared))):
        return guess(value) if isinstance(value, str) else value
    for one in sorted(members(declared), key=lambda one: _ORDER.index(_form(one))):
        try:
            return _converted(one, value)
        except _MisfitError:
            continue
    raise _MisfitError


def _without_quotes(value: Any, declared: Any) -> Any:
    """A value that is no text without quotes around it; beside a text, quotes say which it is."""
    if isinstance(value, str) and str not in members(declared):
        return _unquoted(value.strip())
    return value


def _unquoted(text: str) -> str:
    quoted = text[:1] in ("'", '"') and text[:1] == text[-1:] and len(text) > 1
    meant = guess(text) if quoted else text
    return meant if isinstance(meant, str) else text


def _text(value: Any) -> str:
    if isinstance(value, str):
        return _unquoted(value)
    if _is_number(value):
        return show(value)  # a parser before us took a text such as 4 for a number
    raise _MisfitError


def _scalar(form: Any, value: Any) -> Any:
    if isinstance(value, str):
        word = value.strip().lower()
        number = read_number(value)
        if form is NoneType and word in ("none", "null"):
            return None
        if form is bool and word in ("true", "false"):
            return word == "true"
        if form not in (int, float) or number is None:
            raise _MisfitError
        value = number
    if form is NoneType and value is None:
        return None
    if form is bool and isinstance(value, bool):
        return value
    if form not in (int, float) or not _is_number(value):
        raise _MisfitError
    try:
        if form is float:
            return float(value)
        if isinstance(value, Integral) or float(value).is_integer():
            return int(value)
    except OverflowError:  # an integer of 400 digits is no float
        pass
    raise _MisfitError


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _wanted(types: list[Any]) -> str:
    types = sorted(types, key=lambda one: one is NoneType)
    choices = [repr(c) for one in types if _form(one) is Literal for c in get_args(one)]
    names = [_WORDS.get(one, getattr(one, "__name__", str(one))) for one in types]
    if any(_form(one) is tuple for one in types):
        return "give numbers, such as 2,4,inf, or a list"
    plain = [name for one, name in zip(types, names, strict=True) if _form(one) is not Literal]
    if not plain:
        return f"give {' or '.join(choices)}"
    hints = [_EXAMPLES[one] for one in types if one in _EXAMPLES]
    return f"must be of type {' or '.join([*plain, *choices])}: {', or '.join(hints)}"


def example_of(parameter: Parameter) -> str:
    """Returns a setting that gives an argument a value, for messages."""
    name, declared = parameter.name, parameter.declared
    if value := example(declared):
        return f"{name}={value}"
    if item_types(declared):
        return f"{name}.0=..."
    kind = kind_of(parameter)
    if kind is not None and (only := only_choice(kind, declared)):
        return f"{name}={only}"
    if kind is not None and kind.example:
        return kind.example.format(name)
    return f"{name}=module:Class"


def only_choice(kind: Kind, declared: Any) -> str:
    """Returns the name of the class that an argument is declared as.

    Empty if the argument takes any of the kind.
    """
    return next((name for name, made in kind.known.items() if made is declared), "")

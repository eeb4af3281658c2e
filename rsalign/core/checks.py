"""Checks of settings, and of the values that rewards return.

Every frozen dataclass of settings calls `check_settings` in its ``__post_init__``. It reads the
declared types of the fields, refuses values of another type or out of range with a uniform message,
and converts numbers of other libraries to plain Python numbers. Equal settings are therefore equal
objects with the same ``repr``, and can be pickled and written as JSON.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Search:
    ...     width: int = 4
    ...     beta: float = 1.0
    ...
    ...     def __post_init__(self) -> None:
    ...         check_settings(self, width=at_least(1), beta=above(0.0))
    >>> Search(width=2.5)
    Traceback (most recent call last):
    rsalign.core.errors.ConfigError: Search(width=2.5): give a whole number of at least 1
    >>> Search(beta=2)
    Search(width=4, beta=2.0)
"""

import math
from typing import TYPE_CHECKING, Any, SupportsFloat, cast

from rsalign.core.declared import (
    FINITE,
    Allowed,
    RefusalError,
    convert_value,
    declared_types,
    describe_type,
    is_foreign,
    quote,
)
from rsalign.core.errors import ConfigError, RewardError

if TYPE_CHECKING:
    from rsalign.core.types import Prompt, Response

__all__ = [
    "FINITE",
    "POSITIVE_REWARD",
    "REWARD",
    "SEED",
    "Allowed",
    "above",
    "at_least",
    "check_float",
    "check_int",
    "check_settings",
    "check_value",
    "finite_or_none",
    "finite_reward",
    "part",
    "quote",
    "setting_error",
]

SEED = Allowed(any_size=True)
"""Any whole number, of any size."""
REWARD = Allowed(note="in the reward's units")
"""Any finite reward."""
POSITIVE_REWARD = Allowed(low=0.0, excludes_low=True, note="in the reward's units")
"""A positive number in the reward's units, such as a beta or temperature that divides a reward."""


def at_least(
    low: float, most: float = math.inf, *, infinity: bool = False, note: str = ""
) -> Allowed:
    """Allows values from `low` to `most`, both included."""
    return Allowed(low=low, high=most, infinity=infinity, note=note)


def above(
    low: float,
    most: float = math.inf,
    *,
    below: float = math.inf,
    infinity: bool = False,
    note: str = "",
) -> Allowed:
    """Allows values above `low`, and at most `most` or below `below`."""
    return Allowed(
        low=low,
        high=min(most, below),
        excludes_low=True,
        excludes_high=below <= most and below < math.inf,
        infinity=infinity,
        note=note,
    )


def part(words: str, note: str = "") -> Allowed:
    """Allows any object of the declared type, which messages describe by `words`."""
    return Allowed(words=words, note=note)


def check_settings(owner: object, of: Any = None, /, **allowed: Allowed) -> None:
    """Refuses settings of a dataclass that are out of range or not of their declared type.

    The declared type may be ``int``, ``float``, ``bool``, ``str``, ``Literal``, ``tuple``,
    ``Sequence``, a union, ``None``, a function, a class or a protocol; a field of any other type is
    not checked. A ``bool`` is refused for an ``int``. A ``float`` may be given as any real number
    and must be finite unless its range says otherwise. Values are replaced by plain Python ones.

    Args:
        owner: the dataclass instance; it may be frozen.
        of: the class whose fields are checked, in addition to those in `allowed`. None: the class
            that defines the ``__post_init__``; fields that a subclass adds are not checked.
        **allowed: allowed range by field; a field that is not listed takes any value of its type.

    Raises:
        ConfigError: if a value is refused; the message has the class, the field, the value and what
            is allowed.
        TypeError: if `allowed` has a name that is not a field.
    """
    settings: Any = type(owner)
    declared = declared_types(settings)
    if of is None:
        of = next((base for base in settings.__mro__ if "__post_init__" in vars(base)), settings)
    checks = dict.fromkeys((*declared_types(of), *allowed))
    unknown = allowed.keys() - declared.keys()
    if unknown:
        raise TypeError(f"{type(owner).__name__} has no field {', '.join(sorted(unknown))}")
    for name in checks:
        given = getattr(owner, name)
        rule = allowed.get(name, FINITE)
        value = check_value(settings.__name__, name, given, declared[name], rule)
        if value is not given:
            object.__setattr__(owner, name, value)


def check_value(owner: str, name: str, given: object, kind: Any, allowed: Allowed = FINITE) -> Any:
    """Checks one value like `check_settings`, for functions and classes with plain parameters.

    Args:
        owner: name of the function or class in messages.
        name: name of the parameter.
        given: the value.
        kind: the declared type.
        allowed: the allowed range.

    Returns:
        The value, as a plain Python one.

    Raises:
        ConfigError: if the value is refused; the message says what is allowed.

    Example:
        >>> check_value("generate", "n", 4, int, at_least(1))
        4
    """
    try:
        return convert_value(given, kind, allowed)
    except RefusalError as refusal:
        raise ConfigError(
            f"{owner}({name}={quote(given)}): give {describe_type(kind, allowed)}{refusal}"
            + (f"; {allowed.note}" if allowed.note else "")
        ) from None


def check_int(owner: str, name: str, given: object, allowed: Allowed = FINITE) -> int:
    """Calls `check_value` for a whole number."""
    return cast(int, check_value(owner, name, given, int, allowed))


def check_float(owner: str, name: str, given: object, allowed: Allowed = FINITE) -> float:
    """Calls `check_value` for a number."""
    return cast(float, check_value(owner, name, given, float, allowed))


def setting_error(owner: object, name: str, wanted: str) -> ConfigError:
    """Creates the error for a setting that contradicts another one, in the same form.

    Args:
        owner: the object with the setting.
        name: name of the setting.
        wanted: what is allowed, as text.
    """
    value = quote(getattr(owner, name))
    return ConfigError(f"{type(owner).__name__}({name}={value}): give {wanted}")


def finite_reward(
    value: object, reward: object, prompt: "Prompt | None", response: "Response"
) -> float:
    """Converts the return value of a reward to a finite float.

    Everything that ``float`` takes is accepted except text: Python and NumPy numbers, True and
    False, tensors with one element. A subclass of float with more details
    (`rsalign.core.types.Scored`) is returned as it is.

    Args:
        value: the return value.
        reward: the reward; the error has its name.
        prompt: the prompt that was answered.
        response: the response that was scored.

    Raises:
        RewardError: if it is not a finite number; prompt and response are attached.
    """
    found = finite_or_none(value)
    if found is None:
        raise RewardError(
            f"the reward of {quote(response.text)} by {type(reward).__name__} is {quote(value)}, "
            "but must be a finite number: fix it, or map such values before they are returned",
            prompt=prompt,
            response=response,
        )
    return found


def finite_or_none(value: object) -> float | None:
    """Converts a value to a finite float like `finite_reward`; None if that is impossible."""
    if not isinstance(value, SupportsFloat):
        return None
    if isinstance(value, float) and not is_foreign(value):
        found = value
    else:
        try:
            found = float(value)
        except Exception:  # noqa: BLE001 - too large, several elements, or any error of another's class
            return None
    return found if math.isfinite(found) else None

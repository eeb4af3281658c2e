"""One set of checks for settings and for what a reward returns.

`check_settings` is called in the ``__post_init__`` of every frozen dataclass of settings. It reads
the types that the fields are declared with, refuses values of another type or out of range with one
form of message, and replaces number types of other libraries by plain Python numbers, so that equal
settings are equal, have one ``repr`` and can be pickled and written as JSON.

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


def check_settings(owner: object, of: Any = None, /, **allowed: Allowed) -> None:
    """Refuses settings of a dataclass that are not of their declared type or out of range.

    Understands ``int``, ``float``, ``bool``, ``str``, ``Literal``, ``tuple``, ``Sequence``, unions,
    ``None``, functions, classes and protocols; a field of any other type is left alone. An
    ``int`` is no ``bool``; a ``float`` may be given as any real number and must be finite unless
    its range says otherwise. Values are replaced by plain Python ones where they were not.

    Args:
        owner: the dataclass instance; a frozen one too.
        of: the class whose fields are checked, beside those that are named. None: the one that
            has the ``__post_init__``. What a subclass adds is its own affair.
        **allowed: by field, what else must hold; a field that is not named takes any value of its
            type.

    Raises:
        ConfigError: names class, field and value, and says what is allowed.
        TypeError: if there is no field of a name in `allowed`.
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
        return convert_value(given, kind, allowed)
    except RefusalError as refusal:
        raise ConfigError(
            f"{owner}({name}={quote(given)}): give {describe_type(kind, allowed)}{refusal}"
            + (f"; {allowed.note}" if allowed.note else "")
        ) from None


def check_int(owner: str, name: str, given: object, allowed: Allowed = FINITE) -> int:
    """`check_value` for a whole number."""
    return cast(int, check_value(owner, name, given, int, allowed))


def check_float(owner: str, name: str, given: object, allowed: Allowed = FINITE) -> float:
    """`check_value` for a number."""
    return cast(float, check_value(owner, name, given, float, allowed))


def setting_error(owner: object, name: str, wanted: str) -> ConfigError:
    """The error for a setting that contradicts another one, in the same form.

    Args:
        owner: has the setting.
        name: of the setting.
        wanted: what is allowed.
    """
    value = quote(getattr(owner, name))
    return ConfigError(f"{type(owner).__name__}({name}={value}): give {wanted}")


def finite_reward(
    value: object, reward: object, prompt: "Prompt | None", response: "Response"
) -> float:
    """What a reward returned, as a finite float.

    Takes whatever ``float`` takes but text: Python and numpy numbers, True and False, tensors with
    one element. A float with more to tell (`rsalign.core.protocols.Scored`) comes back as it is.

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
            f"the reward of {quote(response.text)} by {type(reward).__name__} is {quote(value)}, "
            "but must be a finite number: mend it, or map such values before they are returned",
            prompt=prompt,
            response=response,
        )
    return found


def finite_or_none(value: object) -> float | None:
    """The value as a finite float; None if it is not one. As `finite_reward`."""
    if not isinstance(value, SupportsFloat):
        return None
    if isinstance(value, float) and not is_foreign(value):
        found = value
    else:
        try:
            found = float(value)
        except Exception:  # noqa: BLE001 - too large, several elements, or a foreign class's own
            return None
    return found if math.isfinite(found) else None

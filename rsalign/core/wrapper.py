"""Wrappers: a policy or a reward that is another one, and does something besides.

A wrapper has the abilities of what it wraps, no more and no less: ``isinstance(wrapper, ability)``
equals ``isinstance(wrapped, ability)``, through any number of wrappers. So a strategy can ask
whatever it was given what it can do.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from rsalign.core.capabilities import overdraws
from rsalign.core.fingerprint import fingerprint
from rsalign.core.protocols import (
    Adjustable,
    Encoder,
    Likelihood,
    Loaded,
    Measuring,
    PairwiseReward,
    Shaped,
    StepReward,
)
from rsalign.core.text.detokenization import Detokenizing
from rsalign.core.types import Sampling

F = TypeVar("F", bound=Callable[..., Any])

ABILITIES: dict[type, tuple[str, ...]] = {
    Likelihood: ("log_probs",),
    Measuring: ("measure",),
    Loaded: ("headroom",),
    Shaped: ("sampling",),
    Encoder: ("encode", "encode_chat"),
    Detokenizing: ("detokenizer", "token_text"),
    Adjustable: ("with_sampling",),
    StepReward: ("score_steps",),
    PairwiseReward: ("prefer",),
}
"""What policies and rewards may be able to do besides, and the members by which they do it."""


class Wrapper:
    """Base of classes that wrap a part; their first argument is that part.

    A derived class implements what every part of its kind has (`extend` and `text`, or `score`).
    Abilities of the wrapped part are passed on as they are, unless the class replaces them with
    `implements`. Each instance is made from a class that is generated for the abilities of its
    wrapped part: a method that exists and fails when it is called would claim an ability falsely.

    Attributes:
        wrapped_as: the name of the attribute and argument that holds what is wrapped.

    Example:
        >>> from dataclasses import dataclass
        >>> from rsalign.core.protocols import Likelihood, Policy
        >>> from rsalign.testing import ToyPolicy
        >>> @dataclass(frozen=True)
        ... class Same(Wrapper):
        ...     inner: Policy
        >>> isinstance(Same(ToyPolicy()), Likelihood), isinstance(Same(None), Likelihood)
        (True, False)
    """

    __slots__ = ()
    wrapped_as: ClassVar[str] = "inner"
    _without_abilities: ClassVar["type[Wrapper] | None"] = None

    def __new__(cls, *args: Any, **named: Any) -> Any:
        """An instance of the class that has the abilities of what is wrapped."""
        return _blank(cls, args[0] if args else named.get(cls.wrapped_as))

    @property
    def wrapped(self) -> Any:
        """What is wrapped."""
        return getattr(self, self.wrapped_as)

    @property
    def fingerprint(self) -> str:
        """That of what is wrapped: what it draws and judges is the same."""
        return fingerprint(self.wrapped)

    @property
    def overdraws(self) -> bool | None:
        """That of what is wrapped; see `Policy`."""
        return overdraws(self.wrapped)

    @classmethod
    def implements(cls, ability: type) -> Callable[[F], F]:
        """Decorates a function that is to be the member of `ability` in this class.

        Its name matters only where the ability has several members.
        """

        def declare(member: F) -> F:
            names = ABILITIES[ability]
            name = names[0] if len(names) == 1 else member.__name__
            is_property = ability in (Loaded, Shaped)
            _DECLARED[cls, ability, name] = property(member) if is_property else member
            return member

        return declare

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """For pickle and copy: by the class that has a name."""
        plain = type(self)._without_abilities or type(self)
        return _blank, (plain, self.wrapped), self.__getstate__()


_DECLARED: dict[tuple[type, type, str], Any] = {}
_CLASSES: dict[tuple[type[Wrapper], frozenset[type]], type[Wrapper]] = {}


def _blank(cls: type[Wrapper], inner: object) -> Wrapper:
    abilities = frozenset(one for one in ABILITIES if isinstance(inner, one))
    return object.__new__(_class(cls._without_abilities or cls, abilities))


def _class(plain: type[Wrapper], abilities: frozenset[type]) -> type[Wrapper]:
    """The class derived from `plain` that has these abilities; one for each choice."""
    if not abilities:
        return plain
    if (plain, abilities) in _CLASSES:
        return _CLASSES[plain, abilities]
    members = {
        name: _member(plain, ability, name) for ability in abilities for name in ABILITIES[ability]
    }
    about = {
        "__slots__": (),
        "__module__": plain.__module__,
        "__qualname__": plain.__qualname__,
        "__doc__": plain.__doc__,
        "_without_abilities": plain,
    }
    made: type[Wrapper] = type(plain.__name__, (plain,), about | members)
    return _CLASSES.setdefault((plain, abilities), made)


def _member(plain: type, ability: type, name: str) -> Any:
    for base in plain.__mro__:
        if (base, ability, name) in _DECLARED:
            return _DECLARED[base, ability, name]
    if ability is Adjustable:
        return _with_sampling
    return property(lambda wrapper: getattr(wrapper.wrapped, name))


def _with_sampling(self: Any, sampling: Sampling) -> Any:
    """The same wrapper around the policy under another law."""
    return replace(self, **{self.wrapped_as: self.wrapped.with_sampling(sampling)})

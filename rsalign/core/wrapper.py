"""Wrapper: base class of policies and rewards that add behaviour to another policy or reward.

A wrapper has exactly the abilities of the part that it wraps: ``isinstance(wrapper, ability)``
equals ``isinstance(wrapped, ability)``, through any number of wrappers. A strategy can therefore
test the abilities of the policy that it is given.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from rsalign.core.capabilities import excludes, overdraws, vocabulary
from rsalign.core.codes import Code, DrawsByCode
from rsalign.core.fingerprint import fingerprint
from rsalign.core.most_probable import ListsTokens
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
from rsalign.core.segment_ends import EndsSegments
from rsalign.core.text.detokenization import Detokenizing
from rsalign.core.text.reasoning import Dividing
from rsalign.core.types import Sampling

F = TypeVar("F", bound=Callable[..., Any])

ABILITIES: dict[type, tuple[str, ...]] = {
    Likelihood: ("log_probs",),
    Measuring: ("measure",),
    Loaded: ("headroom",),
    Shaped: ("sampling",),
    Encoder: ("encode", "encode_chat"),
    Detokenizing: ("detokenizer", "token_text"),
    Dividing: ("divides", "divide"),
    Adjustable: ("with_sampling",),
    EndsSegments: ("check_boundary",),
    DrawsByCode: ("with_code",),
    ListsTokens: ("most_probable",),
    StepReward: ("score_steps",),
    PairwiseReward: ("prefer",),
}
"""Optional abilities of policies and rewards, with their members."""


class Wrapper:
    """Base class of wrappers; their first argument is the wrapped policy or reward.

    A derived class implements what every part of its kind has (`extend` and `text`, or `score`).
    Abilities of the wrapped part are passed on as they are, unless the class replaces them with
    `implements`. Each instance is made from a class that is generated for the abilities of its
    wrapped part: a method that exists and fails when it is called would claim an ability falsely.

    Attributes:
        wrapped_as: name of the attribute and argument with the wrapped part.

    Example:
        >>> from dataclasses import dataclass
        >>> from rsalign import Likelihood, Policy
        >>> from rsalign.testing import ToyPolicy
        >>> @dataclass(frozen=True)
        ... class Same(Wrapper):
        ...     inner: Policy
        >>> isinstance(Same(ToyPolicy()), Likelihood), isinstance(Same(None), Likelihood)
        (True, False)
    """

    __slots__ = ()
    wrapped_as: ClassVar[str] = "inner"
    _named_class: ClassVar["type[Wrapper] | None"] = None

    def __new__(cls, *args: Any, **named: Any) -> Any:
        """Creates an instance of the generated class with the abilities of the wrapped part."""
        return _allocate(cls, args[0] if args else named.get(cls.wrapped_as))

    @property
    def wrapped(self) -> Any:
        """The wrapped policy or reward."""
        return getattr(self, self.wrapped_as)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the wrapped part, whose draws and values are the same."""
        return fingerprint(self.wrapped)

    @property
    def overdraws(self) -> bool | None:
        """As declared by the wrapped part (`rsalign.core.capabilities`)."""
        return overdraws(self.wrapped)

    @property
    def vocabulary(self) -> str:
        """As declared by the wrapped part."""
        return vocabulary(self.wrapped)

    @property
    def excludes(self) -> bool:
        """As declared by the wrapped part."""
        return excludes(self.wrapped)

    @classmethod
    def implements(cls, ability: type) -> Callable[[F], F]:
        """Returns a decorator: the function replaces a member of `ability` in this class.

        The name of the function matters only if the ability has several members.
        """

        def register(member: F) -> F:
            names = ABILITIES[ability]
            name = names[0] if len(names) == 1 else member.__name__
            is_property = ability in (Loaded, Shaped)
            _REPLACED[cls, ability, name] = property(member) if is_property else member
            return member

        return register

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Pickles and copies by the named class, since generated classes cannot be imported."""
        plain = type(self)._named_class or type(self)
        return _allocate, (plain, self.wrapped), self.__getstate__()


_REPLACED: dict[tuple[type, type, str], Any] = {}
_CLASSES: dict[tuple[type[Wrapper], frozenset[type]], type[Wrapper]] = {}


def _allocate(cls: type[Wrapper], inner: object) -> Wrapper:
    abilities = frozenset(one for one in ABILITIES if isinstance(inner, one))
    return object.__new__(_class(cls._named_class or cls, abilities))


def _class(plain: type[Wrapper], abilities: frozenset[type]) -> type[Wrapper]:
    """Returns the class derived from `plain` with these abilities; creates it once."""
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
        "_named_class": plain,
    }
    made: type[Wrapper] = type(plain.__name__, (plain,), about | members)
    return _CLASSES.setdefault((plain, abilities), made)


def _member(plain: type, ability: type, name: str) -> Any:
    for base in plain.__mro__:
        if (base, ability, name) in _REPLACED:
            return _REPLACED[base, ability, name]
    if ability is Adjustable:
        return _with_sampling
    if ability is DrawsByCode:
        return _with_code
    return property(lambda wrapper: getattr(wrapper.wrapped, name))


def _with_sampling(self: Any, sampling: Sampling) -> Any:
    """Returns the same wrapper around the policy with other sampling settings."""
    return replace(self, **{self.wrapped_as: self.wrapped.with_sampling(sampling)})


def _with_code(self: Any, code: Code) -> Any:
    """Returns the same wrapper around the policy whose draws a code decides."""
    return replace(self, **{self.wrapped_as: self.wrapped.with_code(code)})

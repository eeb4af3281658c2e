"""Attributes of objects and members of classes, without those that say nothing of behaviour."""

import functools
import inspect
import struct
import types
from collections.abc import Iterator
from typing import Any

from rsalign.core.fingerprint.origin import is_ours

_NOT_OF_A_CLASS = frozenset(
    {
        "__abstractmethods__",
        "__annotate__",
        "__annotate_func__",
        "__annotations__",
        "__annotations_cache__",
        "__dataclass_fields__",
        "__dataclass_params__",
        "__dict__",
        "__doc__",
        "__firstlineno__",
        "__match_args__",
        "__module__",
        "__non_callable_proto_members__",
        "__orig_bases__",
        "__parameters__",
        "__protocol_attrs__",
        "__pydantic_core_schema__",
        "__pydantic_serializer__",
        "__pydantic_validator__",
        "__qualname__",
        "__slots__",
        "__static_attributes__",
        "__type_params__",
        "__weakref__",
        "_abc_impl",
    }
)
"""Members that Python adds to every class, or that do not affect its behaviour.

The objects that pydantic compiles from fields and decorators contain memory addresses.
"""
_GENERATED = frozenset(
    {
        "__delattr__",
        "__eq__",
        "__ge__",
        "__gt__",
        "__hash__",
        "__init__",
        "__le__",
        "__lt__",
        "__new__",
        "__replace__",
        "__repr__",
        "__setattr__",
    }
)
"""Methods that `dataclasses` and `collections.namedtuple` generate."""
ADD = (
    'give it one, such as `fingerprint = "length 1"` in its class or `function.fingerprint = '
    '"length 1"`: any text that no other part has, and that you change whenever its results '
    "change"
)
BUILT_IN = (
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)


def attributes(value: Any) -> dict[str, Any]:
    """Returns all attributes of an object, from its dict and its slots."""
    found = dict(getattr(value, "__dict__", {}))
    for cls in type(value).__mro__:
        for name, slot in _slots(cls):
            try:
                found.setdefault(name, slot.__get__(value, cls))
            except AttributeError:  # it has not been assigned yet
                continue
    derived = set(_derived_names(type(value)))
    return {name: at for name, at in found.items() if name not in derived}


def _derived_names(cls: type) -> Iterator[str]:
    """Yields names of attributes that are computed from others, such as cached properties.

    In classes of this package, fields that are neither arguments nor compared are computed values.
    In other classes, ``__post_init__`` may have computed such a field from an `InitVar`.
    """
    for base in cls.__mro__:
        for name, member in vars(base).items():
            if isinstance(member, functools.cached_property):
                yield name
        if is_ours(base.__module__):
            for field in vars(base).get("__dataclass_fields__", {}).values():
                if not field.init and not field.compare:
                    yield field.name


def is_special(name: str) -> bool:
    """Whether it is a special name of Python, such as ``__name__``."""
    return name.startswith("__") and name.endswith("__")


def _slots(cls: type) -> Iterator[tuple[str, types.MemberDescriptorType]]:
    """Yields the slots of a class, and the members that a class written in C exposes."""
    for name, member in vars(cls).items():
        if isinstance(member, types.MemberDescriptorType) and name not in _NOT_OF_A_CLASS:
            yield name, member


def hides_state(cls: type) -> bool:
    """Whether objects have state outside of attributes and slots, as classes written in C do."""
    word = struct.calcsize("P")
    for base in cls.__mro__[:-1]:
        above = base.__base__ or object
        members = vars(base).values()
        seen = sum(isinstance(member, types.MemberDescriptorType) for member in members)
        seen += sum(name in vars(base) for name in ("__dict__", "__weakref__"))
        if base.__itemsize__ or base.__basicsize__ - above.__basicsize__ > seen * word:
            return True
    return False


def _is_generated(name: str, member: object) -> bool:
    """Whether `dataclasses` or `collections.namedtuple` generated a method.

    The name is checked, too, since ``python -c`` and `exec` use the same file name.
    """
    if name not in _GENERATED:
        return False
    code = getattr(inspect.unwrap(member) if callable(member) else member, "__code__", None)
    return isinstance(code, types.CodeType) and code.co_filename == "<string>"


def names_in(cls: type) -> set[str]:
    """Returns the names of attributes that a class and its bases use."""
    names: set[str] = set()
    for base in cls.__mro__:
        names.update(name for name, _ in _slots(base))
        names.update(vars(base).get("__annotations__", {}))
        for member in vars(base).values():
            inner = getattr(member, "fget", None) or getattr(member, "__func__", member)
            code = getattr(inner, "__code__", None)
            if isinstance(code, types.CodeType):
                names.update(code.co_names)
    return names


def members(cls: type) -> dict[str, Any]:
    """Returns the members that one class adds to its bases, without generated ones."""
    return {
        name: member
        for name, member in vars(cls).items()
        if name not in _NOT_OF_A_CLASS
        and not isinstance(member, BUILT_IN)
        and not _is_generated(name, member)
    }


def name_of(part: object) -> str:
    """Returns the name of a function or class, or of the class of another object."""
    if isinstance(part, functools.partial):
        return f"partial {name_of(part.func)}"
    try:
        name = part.__qualname__  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001 - it has none, or a `__getattr__` of its own raises anything
        name = None
    return name if isinstance(name, str) else type(part).__qualname__

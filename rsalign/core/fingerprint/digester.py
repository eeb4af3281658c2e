"""Digester: computes one digest from everything that a policy, reward or function consists of."""

import copyreg
import enum
import functools
import inspect
import logging
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any, NoReturn

from rsalign.core.declared import quote
from rsalign.core.errors import ConfigError
from rsalign.core.fingerprint.code import digest_code, digest_function
from rsalign.core.fingerprint.objects import (
    ADD,
    BUILT_IN,
    attributes,
    hides_state,
    members,
    name_of,
    names_in,
)
from rsalign.core.fingerprint.origin import (
    installed_name,
    is_installed,
    is_local,
    is_ours,
    read_source,
)
from rsalign.core.fingerprint.values import (
    LEAVES,
    digest_array,
    digest_leaf,
    digest_tensor,
    digest_tokenizer,
    hash_parts,
)


class Digester:
    """Computes the digest of a part by a depth-first walk over everything it refers to.

    The digest of each value is computed once. A value that refers to itself (a recursive function,
    an object that refers to its owner) is identified by its depth in the walk instead.

    Args:
        part: the policy, reward, function or value whose fingerprint is computed.
        open_sets: ids of the sets that the walk is inside of.

    Attributes:
        open: depth of each value that the walk is inside of, by id.

    Example:
        >>> digester = Digester([1, 2])
        >>> digester.digest([1, 2], "it") == Digester([1, 2]).digest([1, 2], "it")
        True
    """

    def __init__(self, part: object, open_sets: frozenset[int] = frozenset()) -> None:
        self._part = part
        self.open: dict[int, int] = {}
        self._digests: dict[int, bytes] = {}
        self._alive: list[object] = []  # so that no other value gets the id of a digested one
        self._open_sets = open_sets

    def digest(self, value: Any, where: str) -> bytes:
        """Returns the digest of a value; `where` names its place in error messages."""
        if type(value) in LEAVES:
            return digest_leaf(value)
        address = id(value)
        if address in self._digests:
            return self._digests[address]
        if address in self.open:
            return hash_parts("again", str(self.open[address]).encode())
        self.open[address] = len(self.open)
        try:
            digest = self._digest_new(value, where)
        finally:
            del self.open[address]
        self._digests[address] = digest
        self._alive.append(value)
        return digest

    def _digest_new(self, value: Any, where: str) -> bytes:
        if value is not self._part and (word := declared_fingerprint(value)) is not None:
            return hash_parts("word", word.encode())
        for types_, method in _BY_TYPE:
            if isinstance(value, types_):
                digest: bytes = method(self, value, where)
                return digest
        foreign = (
            digest_array(self, value, where) or digest_tensor(value) or digest_tokenizer(value)
        )
        return foreign or self._object(value, where)

    def digest_all(self, values: Iterable[Any], where: str) -> list[bytes]:
        """Returns the digest of each value."""
        return [self.digest(value, f"{where}[{i}]") for i, value in enumerate(values)]

    # containers

    def _sequence(self, value: Any, where: str) -> bytes:
        items = hash_parts(
            "list" if isinstance(value, list) else "tuple", *self.digest_all(value, where)
        )
        return self.add_subclass(value, (list, tuple), items, where)

    def _mapping(self, value: Any, where: str) -> bytes:
        # in their order: a reward that uses the first match depends on it
        items = hash_parts("dict", *self._items(value, where))
        return self.add_subclass(value, (dict, types.MappingProxyType), items, where)

    def _set(self, value: Any, where: str) -> bytes:
        # each element with a walk of its own, since the order of a set differs between processes
        if id(value) in self._open_sets:
            return hash_parts("again a set")
        inner = self._open_sets | {id(value)}
        elements = (Digester(self._part, inner).digest(one, f"a part of {where}") for one in value)
        digest = hash_parts("set", *sorted(elements))
        return self.add_subclass(value, (set, frozenset), digest, where)

    def _items(self, mapping: Mapping[Any, Any], where: str) -> Iterator[bytes]:
        for key, value in mapping.items():
            yield self.digest(key, f"a key of {where}")
            yield self.digest(value, f"{where}[{quote(key, longest=60)}]")

    def add_subclass(self, value: Any, plain: tuple[type, ...], digest: bytes, where: str) -> bytes:
        """Returns the digest of a container, extended by class and attributes of a subclass."""
        if type(value) in plain:
            return digest
        return hash_parts(
            "derived", digest, self.digest(type(value), where), *self._state(value, where)
        )

    # functions

    def _partial(self, value: "functools.partial[Any]", where: str) -> bytes:
        digest = hash_parts(
            "partial",
            self.digest(value.func, f"the function of {where}"),
            *self.digest_all(value.args, f"the arguments of {where}"),
            *self.digest_named(value.keywords, f"the arguments of {where}"),
            *self.digest_named(value.__dict__, where),
        )
        return self.add_subclass(value, (functools.partial,), digest, where)

    def _method(self, value: types.MethodType, where: str) -> bytes:
        return hash_parts(
            "method",
            self.digest(value.__self__, f"the object of {where}"),
            self.digest(value.__func__, where),
        )

    def _built_in(self, value: Any, where: str) -> bytes:
        owner = getattr(value, "__self__", None)
        if owner is None or isinstance(owner, types.ModuleType):
            home = getattr(value, "__module__", None) or ""
            return hash_parts("built in", home.encode(), value.__qualname__.encode())
        owned = self.digest(owner, f"the object of {where}")
        return hash_parts("built in", value.__name__.encode(), owned)

    def _descriptor(self, value: Any, where: str) -> bytes:
        return hash_parts(
            "descriptor", value.__objclass__.__qualname__.encode(), value.__name__.encode()
        )

    def _wrapper(self, value: Any, where: str) -> bytes:
        """Digests a decorator of methods by the functions that it holds."""
        held = [getattr(value, name, None) for name in ("__func__", "func", "fget", "fset", "fdel")]
        return hash_parts(type(value).__qualname__, *self.digest_all(held, where))

    def _cached_function(self, value: Any, where: str) -> bytes:
        return hash_parts("cache", self.digest(value.__wrapped__, where))

    # classes and objects

    def _class(self, value: type, where: str) -> bytes:
        layers = []
        for base in (*value.__mro__, *type(value).mro(type(value))):
            installed = is_installed(base.__module__)
            if installed:
                layers.append(hash_parts("installed", installed_name(base).encode()))
            if not installed or is_local(base):
                layers.append(self._layer(base))
        return hash_parts("class", value.__qualname__.encode(), *layers)

    def _layer(self, value: type) -> bytes:
        """Digests what one class adds to its base classes."""
        found = members(value)
        if issubclass(value, enum.Enum):  # Python adds much of its own
            known = {one.name: one.value for one in value}
            own = {n: m for n, m in found.items() if isinstance(m, types.FunctionType | property)}
            found = known | {n: m for n, m in own.items() if not n.startswith("_")}
        return hash_parts("layer", *self.digest_named(found, value.__qualname__))

    def _enum(self, value: enum.Enum, where: str) -> bytes:
        content = self.digest(value._value_, where)
        return hash_parts(
            "member", self.digest(type(value), where), str(value.name).encode(), content
        )

    def _number(self, value: Any, where: str) -> bytes:
        """Digests an instance of a subclass of a number or text type."""
        plain = next(one for one in (int, float, complex, str, bytes) if isinstance(value, one))
        content = digest_leaf(int(value)) if plain is int else digest_leaf(plain.__repr__(value))
        content = hash_parts(plain.__name__, content)
        return hash_parts(
            "derived", content, self.digest(type(value), where), *self._state(value, where)
        )

    def _object(self, value: Any, where: str) -> bytes:
        if hides_state(type(value)):
            return hash_parts("hidden", self._reduced(value, where), *self._state(value, where))
        return hash_parts("object", self.digest(type(value), where), *self._state(value, where))

    def _state(self, value: Any, where: str) -> Iterator[bytes]:
        yield from self.digest_named(attributes(value), where)

    def _reduced(self, value: Any, where: str) -> bytes:
        """Digests an object of a class written in C by what pickling it would write."""
        reduce = copyreg.dispatch_table.get(type(value))
        try:
            reduced = reduce(value) if reduce is not None else value.__reduce_ex__(4)
        except Exception:  # noqa: BLE001 - another's class may raise anything
            self.refuse(value, where)
        if isinstance(reduced, str):
            home = getattr(value, "__module__", None) or type(value).__module__
            return hash_parts("global", home.encode(), reduced.encode())
        made, arguments, *rest = (*reduced, None, None, None)[:5]
        state, items, pairs = rest
        return hash_parts(
            "reduced",
            self.digest(type(value), where),
            self.digest(made, where),
            self.digest(arguments, where),
            self.digest(state, where),
            *self.digest_all(items or (), where),
            *self.digest_all(pairs or (), where),
        )

    def digest_named(self, values: Mapping[str, Any], where: str) -> Iterator[bytes]:
        """Yields the digests of names and values, sorted by name."""
        for name in sorted(values):
            yield digest_leaf(name)
            yield self.digest(values[name], f"{where}.{name}")

    def refuse(self, value: Any, where: str) -> NoReturn:
        """Refuses a value that has no digest.

        Raises:
            ConfigError: always; it names the value and its place.
        """
        what = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        raise ConfigError(
            f"{name_of(self._part)} has no fingerprint, by which a journal identifies it, "
            f"and none can be computed: {where} is a {what}, which has no value to compare; "
            f"{ADD}"
        )

    def add_derived(self, part: object, word: str, classes: Iterable[type], base: type) -> bytes:
        """Extends an inherited fingerprint by what subclasses and their attributes add."""
        known = names_in(base)
        added = {name: at for name, at in attributes(part).items() if name not in known}
        layers = [self.digest(one, one.__qualname__) for one in classes]
        return hash_parts(
            "inherited", word.encode(), *layers, *self.digest_named(added, name_of(part))
        )


_T = Digester
_BY_TYPE: tuple[tuple[Any, Any], ...] = (
    (enum.Enum, _T._enum),
    ((str, bytes, int, float, complex), _T._number),
    ((list, tuple), _T._sequence),
    ((dict, types.MappingProxyType), _T._mapping),
    ((set, frozenset), _T._set),
    (types.FunctionType, digest_function),
    (functools.partial, _T._partial),
    (types.MethodType, _T._method),
    ((types.BuiltinFunctionType, types.MethodWrapperType), _T._built_in),
    (BUILT_IN, _T._descriptor),
    (
        (property, staticmethod, classmethod, functools.cached_property),
        _T._wrapper,
    ),
    (functools._lru_cache_wrapper, _T._cached_function),
    (type, _T._class),
    (types.ModuleType, lambda _, value, __: hash_parts("module", read_source(value.__name__))),
    (types.CodeType, lambda digester, value, _: digest_code(digester, value, {})),
    (logging.Logger, lambda _, value, __: hash_parts("logger", value.name.encode())),
    (PurePath, lambda _, value, __: hash_parts("path", value.as_posix().encode())),
    (
        re.Pattern,
        lambda _, one, __: hash_parts("pattern", digest_leaf(one.pattern), digest_leaf(one.flags)),
    ),
)


def declared_fingerprint(part: object) -> str | None:
    """Returns the `fingerprint` attribute of a part; None if it has none.

    Raises:
        ConfigError: if it is not a non-empty text.
    """
    if isinstance(part, type | types.ModuleType):
        return None
    try:
        inspect.getattr_static(part, "fingerprint")  # ignores what __getattr__ passes on
    except AttributeError:
        return None
    word = part.fingerprint  # type: ignore[attr-defined]
    if not isinstance(word, str) or not word:
        raise ConfigError(
            f"{name_of(part)}.fingerprint is {quote(word, longest=60)}: make it a text that no "
            'other part has, as an attribute (`fingerprint = "length 1"`) or a property'
        )
    if "fingerprint" in getattr(part, "__dict__", {}):
        return word
    order = type(part).__mro__
    base = next(one for one in order if "fingerprint" in vars(one))
    # fingerprints of our own classes consider subclasses themselves
    derived = [one for one in order[: order.index(base)] if not is_ours(one.__module__)]
    added = Digester(part).add_derived(part, word, derived, base) if derived else None
    return word if added is None else f"{name_of(part)} {added.hex()}"

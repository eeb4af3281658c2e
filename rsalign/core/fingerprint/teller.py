"""The walk over all that a part is made of."""

import copyreg
import dis
import enum
import functools
import inspect
import logging
import re
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any, NoReturn

from rsalign.core.declared import quote
from rsalign.core.errors import ConfigError
from rsalign.core.fingerprint.digest import LEAVES, hashed, leaf
from rsalign.core.fingerprint.libraries import array, tensor, tokenizer
from rsalign.core.fingerprint.objects import (
    ADD,
    BUILT_IN,
    attributes,
    hides_state,
    is_special,
    members,
    name_of,
    names_in,
)
from rsalign.core.fingerprint.origin import (
    absolute,
    installed_name,
    is_installed,
    is_local,
    is_ours,
    source,
)


class Teller:
    """One walk over all that a part is made of.

    Each value is told once. One that is met again while it is still being told (a function that
    calls itself, an object that refers to its owner) is told by its place on the way down.
    """

    def __init__(self, part: object, open_sets: frozenset[int] = frozenset()) -> None:
        self._part = part
        self._open: dict[int, int] = {}
        self._told: dict[int, bytes] = {}
        self._alive: list[object] = []  # an address means one value only while that value lives
        self._open_sets = open_sets

    def tell(self, value: Any, where: str) -> bytes:
        """The digest of a value; `where` it was found is for the message if it has none."""
        if type(value) in LEAVES:
            return leaf(value)
        address = id(value)
        if address in self._told:
            return self._told[address]
        if address in self._open:
            return hashed("again", str(self._open[address]).encode())
        self._open[address] = len(self._open)
        try:
            digest = self._value(value, where)
        finally:
            del self._open[address]
        self._told[address] = digest
        self._alive.append(value)
        return digest

    def _value(self, value: Any, where: str) -> bytes:
        if value is not self._part and (word := own_word(value)) is not None:
            return hashed("word", word.encode())
        for types_, tell in _TELLERS:
            if isinstance(value, types_):
                digest: bytes = tell(self, value, where)
                return digest
        foreign = array(self, value, where) or tensor(value) or tokenizer(value)
        return foreign or self._object(value, where)

    def _all(self, values: Iterable[Any], where: str) -> list[bytes]:
        return [self.tell(value, f"{where}[{i}]") for i, value in enumerate(values)]

    # containers

    def _sequence(self, value: Any, where: str) -> bytes:
        items = hashed("list" if isinstance(value, list) else "tuple", *self._all(value, where))
        return self.extended(value, (list, tuple), items, where)

    def _mapping(self, value: Any, where: str) -> bytes:
        # in their order, which a reward that takes the first match depends on
        items = hashed("dict", *self._items(value, where))
        return self.extended(value, (dict, types.MappingProxyType), items, where)

    def _set(self, value: Any, where: str) -> bytes:
        # each element by itself, so that the order in which they are met, which differs between
        # processes, does not matter
        if id(value) in self._open_sets:
            return hashed("again a set")
        inner = self._open_sets | {id(value)}
        elements = (Teller(self._part, inner).tell(one, f"a part of {where}") for one in value)
        digest = hashed("set", *sorted(elements))
        return self.extended(value, (set, frozenset), digest, where)

    def _items(self, mapping: Mapping[Any, Any], where: str) -> Iterator[bytes]:
        for key, value in mapping.items():
            yield self.tell(key, f"a key of {where}")
            yield self.tell(value, f"{where}[{quote(key, longest=60)}]")

    def extended(self, value: Any, plain: tuple[type, ...], digest: bytes, where: str) -> bytes:
        """A container's digest, with what a class derived from it adds."""
        if type(value) in plain:
            return digest
        return hashed("derived", digest, self.tell(type(value), where), *self._state(value, where))

    # functions

    def _function(self, function: types.FunctionType, where: str) -> bytes:
        home = function.__globals__.get("__name__")
        installed = isinstance(home, str) and is_installed(home)
        if installed and not is_local(function):
            return hashed("installed", installed_name(function).encode())
        code = function.__code__
        return hashed(
            "function",
            installed_name(function).encode()
            if installed
            else self._code(code, function.__globals__),
            self.tell(function.__defaults__, f"the default arguments of {where}"),
            self.tell(function.__kwdefaults__, f"the default arguments of {where}"),
            *self._closure(function, where),
            *self._named(function.__dict__, where),
        )

    def _closure(self, function: types.FunctionType, where: str) -> Iterator[bytes]:
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            try:
                content = cell.cell_contents
            except ValueError:  # it has not been assigned yet
                yield hashed("empty")
                continue
            yield self.tell(content, f"the closure variable {name!r} of {where}")

    def _code(self, code: types.CodeType, scope: Mapping[str, Any]) -> bytes:
        shape = (
            code.co_names,
            code.co_varnames,
            code.co_freevars,
            code.co_cellvars,
            code.co_argcount,
            code.co_posonlyargcount,
            code.co_kwonlyargcount,
            code.co_flags,
        )
        constants = [
            self._code(constant, scope)
            if isinstance(constant, types.CodeType)
            else self.tell(constant, "a constant")
            for constant in code.co_consts
        ]
        return hashed(
            "code",
            code.co_code,
            getattr(code, "co_exceptiontable", b""),
            repr(shape).encode(),
            *constants,
            *self._globals(code, scope),
        )

    def _globals(self, code: types.CodeType, scope: Mapping[str, Any]) -> Iterator[bytes]:
        names: dict[str, None] = {}
        imports: dict[str, None] = {}
        level = 0
        for step in dis.get_instructions(code):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                names[str(step.argval)] = None
            elif step.opname in ("LOAD_CONST", "LOAD_SMALL_INT") and isinstance(step.argval, int):
                level = step.argval  # two instructions before an import
            elif step.opname == "IMPORT_NAME":
                package = scope.get("__package__") or ""
                imports[absolute(str(step.argval), level, package)] = None
        for name in names:
            if name in scope and not is_special(name):
                yield leaf(name)
                yield self._global(scope[name], code, name)
        for name in imports:
            module = sys.modules.get(name)
            if module is None:
                yield hashed("import", name.encode(), source(name))
            else:
                yield self._module(module, code.co_names)

    def _global(self, value: Any, code: types.CodeType, name: str) -> bytes:
        if isinstance(value, types.ModuleType):
            return self._module(value, code.co_names)
        return self.tell(value, f"the global variable {name!r}")

    def _module(self, module: types.ModuleType, names: Iterable[str]) -> bytes:
        """What code that has these names may find in a module."""
        if is_installed(module.__name__):
            return hashed("module", installed_name(module).encode())
        if id(module) in self._open:
            return hashed("again", str(self._open[id(module)]).encode())
        self._open[id(module)] = len(self._open)
        try:
            told = [
                self._module(value, names)
                if isinstance(value, types.ModuleType)
                else self.tell(value, f"{module.__name__}.{name}")
                for name in sorted(set(names) & vars(module).keys())
                if not is_special(name)
                for value in (vars(module)[name],)
            ]
        finally:
            del self._open[id(module)]
        return hashed("members", *told)

    def _partial(self, value: "functools.partial[Any]", where: str) -> bytes:
        digest = hashed(
            "partial",
            self.tell(value.func, f"the function of {where}"),
            *self._all(value.args, f"the arguments of {where}"),
            *self._named(value.keywords, f"the arguments of {where}"),
            *self._named(value.__dict__, where),
        )
        return self.extended(value, (functools.partial,), digest, where)

    def _method(self, value: types.MethodType, where: str) -> bytes:
        return hashed(
            "method",
            self.tell(value.__self__, f"the object of {where}"),
            self.tell(value.__func__, where),
        )

    def _built_in(self, value: Any, where: str) -> bytes:
        owner = getattr(value, "__self__", None)
        if owner is None or isinstance(owner, types.ModuleType):
            home = getattr(value, "__module__", None) or ""
            return hashed("built in", home.encode(), value.__qualname__.encode())
        owned = self.tell(owner, f"the object of {where}")
        return hashed("built in", value.__name__.encode(), owned)

    def _descriptor(self, value: Any, where: str) -> bytes:
        return hashed(
            "descriptor", value.__objclass__.__qualname__.encode(), value.__name__.encode()
        )

    def _wrapper(self, value: Any, where: str) -> bytes:
        """Decorators of methods: told by the functions that they hold."""
        held = [getattr(value, name, None) for name in ("__func__", "func", "fget", "fset", "fdel")]
        return hashed(type(value).__qualname__, *self._all(held, where))

    def _cached_function(self, value: Any, where: str) -> bytes:
        return hashed("cache", self.tell(value.__wrapped__, where))

    # classes and objects

    def _class(self, value: type, where: str) -> bytes:
        layers = []
        for base in (*value.__mro__, *type(value).mro(type(value))):
            installed = is_installed(base.__module__)
            if installed:
                layers.append(hashed("installed", installed_name(base).encode()))
            if not installed or is_local(base):
                layers.append(self._layer(base))
        return hashed("class", value.__qualname__.encode(), *layers)

    def _layer(self, value: type) -> bytes:
        """What one class adds to those it is derived from."""
        found = members(value)
        if issubclass(value, enum.Enum):  # with much that Python keeps for itself
            known = {one.name: one.value for one in value}
            own = {n: m for n, m in found.items() if isinstance(m, types.FunctionType | property)}
            found = known | {n: m for n, m in own.items() if not n.startswith("_")}
        return hashed("layer", *self._named(found, value.__qualname__))

    def _enum(self, value: enum.Enum, where: str) -> bytes:
        content = self.tell(value._value_, where)
        return hashed("member", self.tell(type(value), where), str(value.name).encode(), content)

    def _number(self, value: Any, where: str) -> bytes:
        """Of a class derived from a number or text."""
        plain = next(one for one in (int, float, complex, str, bytes) if isinstance(value, one))
        content = leaf(int(value)) if plain is int else leaf(plain.__repr__(value))
        content = hashed(plain.__name__, content)
        return hashed("derived", content, self.tell(type(value), where), *self._state(value, where))

    def _object(self, value: Any, where: str) -> bytes:
        if hides_state(type(value)):
            return hashed("hidden", self._reduced(value, where), *self._state(value, where))
        return hashed("object", self.tell(type(value), where), *self._state(value, where))

    def _state(self, value: Any, where: str) -> Iterator[bytes]:
        yield from self._named(attributes(value), where)

    def _reduced(self, value: Any, where: str) -> bytes:
        """An object of a class that is written in C, by what pickling it would write."""
        reduce = copyreg.dispatch_table.get(type(value))
        try:
            reduced = reduce(value) if reduce is not None else value.__reduce_ex__(4)
        except Exception:  # noqa: BLE001 - whatever a foreign class raises: it cannot be told
            self.refuse(value, where)
        if isinstance(reduced, str):
            home = getattr(value, "__module__", None) or type(value).__module__
            return hashed("global", home.encode(), reduced.encode())
        made, arguments, *rest = (*reduced, None, None, None)[:5]
        state, items, pairs = rest
        return hashed(
            "reduced",
            self.tell(type(value), where),
            self.tell(made, where),
            self.tell(arguments, where),
            self.tell(state, where),
            *self._all(items or (), where),
            *self._all(pairs or (), where),
        )

    def _named(self, values: Mapping[str, Any], where: str) -> Iterator[bytes]:
        for name in sorted(values):
            yield leaf(name)
            yield self.tell(values[name], f"{where}.{name}")

    def refuse(self, value: Any, where: str) -> NoReturn:
        """Says what cannot be told.

        Raises:
            ConfigError: always.
        """
        what = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        raise ConfigError(
            f"{name_of(self._part)} has no fingerprint, by which a journal tells it from others, "
            f"and cannot be told by its values: {where} is a {what}, which has no value to "
            f"compare; {ADD}"
        )

    def derived(self, part: object, word: str, classes: Iterable[type], base: type) -> bytes:
        """A word that was inherited, with what the derived classes and their attributes add."""
        known = names_in(base)
        added = {name: at for name, at in attributes(part).items() if name not in known}
        layers = [self.tell(one, one.__qualname__) for one in classes]
        return hashed("inherited", word.encode(), *layers, *self._named(added, name_of(part)))


_T = Teller
_TELLERS: tuple[tuple[Any, Any], ...] = (
    (enum.Enum, _T._enum),
    ((str, bytes, int, float, complex), _T._number),
    ((list, tuple), _T._sequence),
    ((dict, types.MappingProxyType), _T._mapping),
    ((set, frozenset), _T._set),
    (types.FunctionType, _T._function),
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
    (types.ModuleType, lambda _, value, __: hashed("module", source(value.__name__))),
    (types.CodeType, lambda teller, value, _: teller._code(value, {})),
    (logging.Logger, lambda _, value, __: hashed("logger", value.name.encode())),
    (PurePath, lambda _, value, __: hashed("path", value.as_posix().encode())),
    (re.Pattern, lambda _, one, __: hashed("pattern", leaf(one.pattern), leaf(one.flags))),
)


def own_word(part: object) -> str | None:
    """The fingerprint that a part has of its own; None if it has none."""
    if isinstance(part, type | types.ModuleType):
        return None
    try:
        inspect.getattr_static(part, "fingerprint")  # not what a wrapper passes on by __getattr__
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
    # our own classes take care of those that are derived from them
    derived = [one for one in order[: order.index(base)] if not is_ours(one.__module__)]
    added = Teller(part).derived(part, word, derived, base) if derived else None
    return word if added is None else f"{name_of(part)} {added.hex()}"

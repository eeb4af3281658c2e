"""What tells one part from another: a policy, a reward, a function, a rule.

A journal replays what a part has said, and must never replay what another part would have said. So
every part has a fingerprint: a string that is the same in every process for as long as the part
would say the same, and another one as soon as it would not.

A part may have an attribute or property ``fingerprint`` of its own, which is used as it is (of a
class that inherits it, what the class adds is told, too). Any other part is told by its values:

* functions by their code with its constants, default arguments, closure variables, and the globals
  and module members that they name, likewise;
* ``functools.partial`` by function and arguments; bound methods by object and function;
* objects by the code of their class and by all of their attributes; enums, sets, dicts, paths,
  regular expressions, NumPy arrays, torch tensors and tokenizers by content; other objects that are
  written in C by what pickling them would write;
* what is installed or part of Python by its name, with the version of its package.

File paths, line numbers, names of functions and addresses in memory do not count. Not seen are what
a function imports or looks up by a computed name, and what lies outside the process: a file that is
read, a server that is asked. Who depends on such things needs a ``fingerprint`` that names them.
"""

import dis
import enum
import functools
import hashlib
import importlib.util
import inspect
import json
import logging
import os
import re
import site
import struct
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, NoReturn

from rsalign.errors import ConfigError


def fingerprint(part: object) -> str:
    """What tells `part` from others: its own word, else its kind and a digest of its values.

    Args:
        part: a policy, a reward, a function, or any value.

    Returns:
        The same string in every process, until the part changes.

    Raises:
        ConfigError: if something in it has no value that could be compared (a lock, an open file, a
            connection, a generator). The message names it, and what to add.

    Example:
        >>> from functools import partial
        >>> longer = fingerprint(partial(pow, 2))
        >>> longer == fingerprint(partial(pow, 2)), longer == fingerprint(partial(pow, 3))
        (True, False)
    """
    word = _own_word(part)
    if word is not None:
        return word
    try:
        digest = _Teller(part).tell(part, kind(part))
    except RecursionError:
        raise ConfigError(
            f"{kind(part)} is nested too deeply to be told apart by its values: {_ADD}"
        ) from None
    return f"{kind(part)} {digest.hex()}"


def kind(part: object) -> str:
    """The name of a function or class, or that of an object's class."""
    if isinstance(part, functools.partial):
        return f"partial {kind(part.func)}"
    return str(getattr(part, "__qualname__", type(part).__qualname__))


_ADD = (
    'give it one, such as `fingerprint = "length 1"` in its class or `function.fingerprint = '
    '"length 1"`: any text that no other part has, and that you change whenever it would judge or '
    "draw otherwise"
)
_LEAVES = (str, bytes, int, float, complex, bool, type(None), type(...), type(NotImplemented))
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
        "__qualname__",
        "__slots__",
        "__static_attributes__",
        "__type_params__",
        "__weakref__",
        "_abc_impl",
    }
)
"""What Python adds to every class, or what says nothing of how it behaves."""
_BUILT_IN = (
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)


class _Teller:
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
        if type(value) in _LEAVES:
            return _leaf(value)
        address = id(value)
        if address in self._told:
            return self._told[address]
        if address in self._open:
            return _hash("again", str(self._open[address]).encode())
        self._open[address] = len(self._open)
        try:
            digest = self._value(value, where)
        finally:
            del self._open[address]
        self._told[address] = digest
        self._alive.append(value)
        return digest

    def _value(self, value: Any, where: str) -> bytes:
        if value is not self._part and (word := _own_word(value)) is not None:
            return _hash("word", word.encode())
        for types_, tell in _TELLERS:
            if isinstance(value, types_):
                return tell(self, value, where)
        foreign = _array(self, value, where) or _tensor(value) or _tokenizer(value)
        return foreign or self._object(value, where)

    def _all(self, values: Iterable[Any], where: str) -> list[bytes]:
        return [self.tell(value, f"{where}[{i}]") for i, value in enumerate(values)]

    # containers

    def _sequence(self, value: Any, where: str) -> bytes:
        items = _hash(_base(value, (list, tuple)), *self._all(value, where))
        return self._extended(value, (list, tuple), items, where)

    def _mapping(self, value: Any, where: str) -> bytes:
        # in their order, which a reward that takes the first match depends on
        items = _hash("dict", *self._items(value, where))
        return self._extended(value, (dict, types.MappingProxyType), items, where)

    def _set(self, value: Any, where: str) -> bytes:
        # each element by itself, so that the order in which they are met, which differs between
        # processes, does not matter
        if id(value) in self._open_sets:
            return _hash("again a set")
        inner = self._open_sets | {id(value)}
        elements = (_Teller(self._part, inner).tell(one, f"a part of {where}") for one in value)
        digest = _hash("set", *sorted(elements))
        return self._extended(value, (set, frozenset), digest, where)

    def _items(self, mapping: Mapping[Any, Any], where: str) -> Iterator[bytes]:
        for key, value in mapping.items():
            yield self.tell(key, f"a key of {where}")
            yield self.tell(value, f"{where}[{_short(key)}]")

    def _extended(self, value: Any, plain: tuple[type, ...], digest: bytes, where: str) -> bytes:
        """A container's digest, with what a class derived from it adds."""
        if type(value) in plain:
            return digest
        return _hash("derived", digest, self.tell(type(value), where), *self._state(value, where))

    # functions

    def _function(self, function: types.FunctionType, where: str) -> bytes:
        home = function.__globals__.get("__name__")
        installed = isinstance(home, str) and _is_installed(home)
        if installed and not _is_local(function):
            return _hash("installed", _name(function).encode())
        code = function.__code__
        return _hash(
            "function",
            _name(function).encode() if installed else self._code(code, function.__globals__),
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
                yield _hash("empty")
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
        return _hash(
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
                imports[_absolute(str(step.argval), level, package)] = None
        for name in names:
            if name in scope and not name.startswith("__"):
                yield _leaf(name)
                yield self._global(scope[name], code, name)
        for name in imports:
            module = sys.modules.get(name)
            if module is None:
                yield _hash("import", name.encode(), _source(name))
            else:
                yield self._module(module, code.co_names)

    def _global(self, value: Any, code: types.CodeType, name: str) -> bytes:
        if isinstance(value, types.ModuleType):
            return self._module(value, code.co_names)
        return self.tell(value, f"the global variable {name!r}")

    def _module(self, module: types.ModuleType, names: Iterable[str]) -> bytes:
        """What code that has these names may find in a module."""
        if _is_installed(module.__name__):
            return _hash("module", _name(module).encode())
        if id(module) in self._open:
            return _hash("again", str(self._open[id(module)]).encode())
        self._open[id(module)] = len(self._open)
        try:
            members = [
                self._module(value, names)
                if isinstance(value, types.ModuleType)
                else self.tell(value, f"{module.__name__}.{name}")
                for name in sorted(set(names) & vars(module).keys())
                if not name.startswith("__")
                for value in (vars(module)[name],)
            ]
        finally:
            del self._open[id(module)]
        return _hash("members", *members)

    def _partial(self, value: "functools.partial[Any]", where: str) -> bytes:
        return _hash(
            "partial",
            self.tell(value.func, f"the function of {where}"),
            *self._all(value.args, f"the arguments of {where}"),
            *self._named(value.keywords, f"the arguments of {where}"),
            *self._named(value.__dict__, where),
        )

    def _method(self, value: types.MethodType, where: str) -> bytes:
        return _hash(
            "method",
            self.tell(value.__self__, f"the object of {where}"),
            self.tell(value.__func__, where),
        )

    def _built_in(self, value: Any, where: str) -> bytes:
        owner = getattr(value, "__self__", None)
        if owner is None or isinstance(owner, types.ModuleType):
            home = getattr(value, "__module__", None) or ""
            return _hash("built in", home.encode(), value.__qualname__.encode())
        owned = self.tell(owner, f"the object of {where}")
        return _hash("built in", value.__name__.encode(), owned)

    def _descriptor(self, value: Any, where: str) -> bytes:
        return _hash(
            "descriptor", value.__objclass__.__qualname__.encode(), value.__name__.encode()
        )

    def _wrapper(self, value: Any, where: str) -> bytes:
        """Decorators of methods: told by the functions that they hold."""
        held = [getattr(value, name, None) for name in ("__func__", "func", "fget", "fset", "fdel")]
        return _hash(type(value).__qualname__, *self._all(held, where))

    def _cached_function(self, value: Any, where: str) -> bytes:
        return _hash("cache", self.tell(value.__wrapped__, where))

    # classes and objects

    def _class(self, value: type, where: str) -> bytes:
        layers = []
        for base in (*value.__mro__, *type(value).__mro__):
            installed = _is_installed(base.__module__)
            if installed:
                layers.append(_hash("installed", _name(base).encode()))
            if not installed or _is_local(base):
                layers.append(self._layer(base))
        return _hash("class", value.__qualname__.encode(), *layers)

    def _layer(self, value: type) -> bytes:
        """What one class adds to those it is derived from."""
        members = {
            name: member
            for name, member in vars(value).items()
            if name not in _NOT_OF_A_CLASS
            and not isinstance(member, _BUILT_IN)
            and not _is_generated(member)
        }
        if issubclass(value, enum.Enum):  # with much that Python keeps for itself
            known = {one.name: one.value for one in value}
            own = {n: m for n, m in members.items() if isinstance(m, types.FunctionType | property)}
            members = known | {n: m for n, m in own.items() if not n.startswith("_")}
        return _hash("layer", *self._named(members, value.__qualname__))

    def _enum(self, value: enum.Enum, where: str) -> bytes:
        content = self.tell(value._value_, where)
        return _hash("member", self.tell(type(value), where), str(value.name).encode(), content)

    def _path(self, value: PurePath, where: str) -> bytes:
        return _hash("path", value.as_posix().encode())

    def _pattern(self, value: "re.Pattern[Any]", where: str) -> bytes:
        return _hash("pattern", _leaf(value.pattern), _leaf(value.flags))

    def _number(self, value: Any, where: str) -> bytes:
        """Of a class derived from a number or text."""
        plain = next(one for one in (int, float, complex, str, bytes) if isinstance(value, one))
        content = _hash(plain.__name__, plain.__repr__(value).encode())
        return _hash("derived", content, self.tell(type(value), where), *self._state(value, where))

    def _object(self, value: Any, where: str) -> bytes:
        cls = type(value)
        own = [getattr(cls, name) for name in ("__reduce__", "__reduce_ex__", "__getstate__")]
        if not all(isinstance(one, types.FunctionType) or _is_of_object(one) for one in own):
            return self._reduced(value, where)
        if all(map(_is_of_object, own)):
            try:
                value.__reduce_ex__(4)  # refuses an object that has more than its attributes
            except Exception:  # noqa: BLE001 - whatever a foreign class raises: it cannot be told
                self._refuse(value, where)
        return _hash("object", self.tell(cls, where), *self._state(value, where))

    def _state(self, value: Any, where: str) -> Iterator[bytes]:
        yield from self._named(_attributes(value), where)

    def _reduced(self, value: Any, where: str) -> bytes:
        """An object of a class that is written in C, by what pickling it would write."""
        try:
            reduced = value.__reduce_ex__(4)
        except Exception:  # noqa: BLE001 - whatever a foreign class raises: it cannot be told
            self._refuse(value, where)
        if isinstance(reduced, str):
            home = getattr(value, "__module__", None) or type(value).__module__
            return _hash("global", home.encode(), reduced.encode())
        made, arguments, *rest = (*reduced, None, None, None)[:5]
        state, items, pairs = rest
        return _hash(
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
            yield _leaf(name)
            yield self.tell(values[name], f"{where}.{name}")

    def _refuse(self, value: Any, where: str) -> NoReturn:
        what = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        raise ConfigError(
            f"{kind(self._part)} has no fingerprint, by which a journal tells it from others, and "
            f"cannot be told by its values: {where} is a {what}, which has no value to compare; "
            f"{_ADD}"
        )

    def derived(self, part: object, word: str, classes: Iterable[type], base: type) -> bytes:
        """A word that was inherited, with what the derived classes and their attributes add."""
        known = _names_in(base)
        added = {name: at for name, at in _attributes(part).items() if name not in known}
        layers = [self.tell(one, one.__qualname__) for one in classes]
        return _hash("inherited", word.encode(), *layers, *self._named(added, kind(part)))


_T = _Teller
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
    (_BUILT_IN, _T._descriptor),
    (
        (property, staticmethod, classmethod, functools.cached_property),
        _T._wrapper,
    ),
    (functools._lru_cache_wrapper, _T._cached_function),
    (type, _T._class),
    (types.ModuleType, lambda _, value, __: _hash("module", _source(value.__name__))),
    (types.CodeType, lambda teller, value, _: teller._code(value, {})),
    (logging.Logger, lambda _, value, __: _hash("logger", value.name.encode())),
    (PurePath, _T._path),
    (re.Pattern, _T._pattern),
)


def _own_word(part: object) -> str | None:
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
            f"{kind(part)}.fingerprint is {_short(word)}: make it a text that no other part has, "
            'as an attribute (`fingerprint = "length 1"`) or a property'
        )
    if "fingerprint" in getattr(part, "__dict__", {}):
        return word
    order = type(part).__mro__
    base = next(one for one in order if "fingerprint" in vars(one))
    # our own classes take care of those that are derived from them
    derived = [one for one in order[: order.index(base)] if not _is_ours(one.__module__)]
    if not derived:
        return word
    return f"{kind(part)} {_Teller(part).derived(part, word, derived, base).hex()}"


def _hash(tag: str, *parts: bytes) -> bytes:
    digest = hashlib.blake2b(tag.encode(), digest_size=16)
    for part in parts:
        digest.update(struct.pack("<q", len(part)))
        digest.update(part)
    return digest.digest()


def _leaf(value: Any) -> bytes:
    if isinstance(value, str):
        return _hash("str", value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes):
        return _hash("bytes", value)
    return _hash(type(value).__qualname__, repr(value).encode())


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _base(value: Any, among: tuple[type, ...]) -> str:
    return next(one.__name__ for one in among if isinstance(value, one))


def _attributes(value: Any) -> dict[str, Any]:
    """All that an object has of its own, wherever it keeps it."""
    found = dict(getattr(value, "__dict__", {}))
    for cls in type(value).__mro__:
        slots = vars(cls).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            name = f"_{cls.__name__.lstrip('_')}{slot}" if _is_private(slot) else slot
            if slot not in ("__dict__", "__weakref__") and hasattr(value, name):
                found[name] = getattr(value, name)
    derived = set(_derived_names(type(value)))
    return {name: at for name, at in found.items() if name not in derived}


def _derived_names(cls: type) -> Iterator[str]:
    """Attributes that were computed from others, and say nothing that these do not."""
    for base in cls.__mro__:
        for name, member in vars(base).items():
            if isinstance(member, functools.cached_property):
                yield name
    for field in getattr(cls, "__dataclass_fields__", {}).values():
        if not field.init and not field.compare:
            yield field.name


def _is_private(name: str) -> bool:
    return name.startswith("__") and not name.endswith("__")


def _is_of_object(method: Any) -> bool:
    return method in (object.__reduce__, object.__reduce_ex__, object.__getstate__)


def _is_generated(member: object) -> bool:
    """Whether a method was written by `dataclasses` or `collections.namedtuple`."""
    code = getattr(inspect.unwrap(member) if callable(member) else member, "__code__", None)
    return isinstance(code, types.CodeType) and code.co_filename == "<string>"


def _names_in(cls: type) -> set[str]:
    """The attributes that a class and its bases know of."""
    names: set[str] = set()
    for base in cls.__mro__:
        slots = vars(base).get("__slots__", ())
        names.update((slots,) if isinstance(slots, str) else slots)
        names.update(vars(base).get("__annotations__", {}))
        for member in vars(base).values():
            inner = getattr(member, "fget", None) or getattr(member, "__func__", member)
            code = getattr(inner, "__code__", None)
            if isinstance(code, types.CodeType):
                names.update(code.co_names)
    return names


# what is installed is told by its name


@functools.cache
def _places() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    found = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    with_sites = [*found, *site.getsitepackages(), site.getusersitepackages()]
    return tuple(os.path.realpath(one) + os.sep for one in with_sites)


@functools.cache
def _is_installed(module: str) -> bool:
    """Whether a module is Python's, a package's that is installed, or ours."""
    top = module.partition(".")[0]
    if _is_ours(module) or top == "builtins":
        return True
    if module == "__main__" or module not in sys.modules:
        return False
    file = getattr(sys.modules[module], "__file__", None)
    if file is None:
        return top in sys.stdlib_module_names
    return os.path.realpath(file).startswith(_places())


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == "rsalign"


def _name(value: Any) -> str:
    """The name of an installed function, class or (without a qualified name) module."""
    module = getattr(value, "__module__", None) or value.__name__
    top = module.partition(".")[0]
    version = "" if _is_ours(module) else getattr(sys.modules.get(top), "__version__", "")
    return f"{module}.{getattr(value, '__qualname__', '')} {version}"


def _is_local(value: Any) -> bool:
    """Whether a function or class is not what its name stands for, but made anew somewhere."""
    found: Any = sys.modules.get(value.__module__)
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is not value


def _absolute(name: str, level: int, package: str) -> str:
    if not level or not package:
        return name
    return importlib.util.resolve_name("." * level + name, package)


def _source(module: str) -> bytes:
    """The text of a module that a function imports when it is called."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return b""
    if spec is None or not spec.has_location or spec.origin is None:
        return b""
    if os.path.realpath(spec.origin).startswith(_places()):
        return b""
    return Path(spec.origin).read_bytes()


# values of libraries that need not be installed


def _array(teller: _Teller, value: Any, where: str) -> bytes | None:
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    if isinstance(value, numpy.ufunc):
        for home in ("numpy", "scipy.special"):
            if getattr(sys.modules.get(home), value.__name__, None) is value:
                return _hash("ufunc", home.encode(), value.__name__.encode())
        teller._refuse(value, where)
    if isinstance(value, numpy.ndarray | numpy.generic):
        about = (repr(value.dtype.descr if value.dtype.names else value.dtype.str), value.shape)
        if value.dtype.hasobject:
            content = teller.tell(value.tolist(), where)
        else:
            content = hashlib.blake2b(value.tobytes(), digest_size=16).digest()
        return _hash("array", repr(about).encode(), content)
    return None


def _tensor(value: Any) -> bytes | None:
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, getattr(torch, "Tensor", ())):
        return None
    plain = value.detach().cpu().contiguous().reshape(-1)
    content = hashlib.blake2b(plain.view(torch.uint8).numpy(), digest_size=16).digest()
    return _hash("tensor", str(value.dtype).encode(), repr(tuple(value.shape)).encode(), content)


def _tokenizer(value: Any) -> bytes | None:
    """A Hugging Face tokenizer: its vocabulary, rules and chat template, not where it lies."""
    if not any(one.__module__.startswith("transformers.") for one in type(value).__mro__):
        return None
    if not hasattr(value, "get_vocab") or not hasattr(value, "special_tokens_map"):
        return None
    spoken = (value.chat_template, sorted(map(repr, value.special_tokens_map.items())))
    return _hash("tokenizer", _vocabulary(value), repr(spoken).encode())


@functools.lru_cache(maxsize=16)
def _vocabulary(tokenizer: Any) -> bytes:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        file = getattr(tokenizer, "vocab_file", None)
        rules = Path(file).read_bytes() if file and os.path.isfile(file) else b""
        words = repr(sorted(tokenizer.get_vocab().items())).encode()
        return _hash("words", rules, words)
    rules = json.loads(backend.to_str())
    for state in ("truncation", "padding"):  # of the call before
        rules.pop(state, None)
    return _hash("rules", json.dumps(rules, sort_keys=True).encode())

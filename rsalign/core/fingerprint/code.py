"""Digests of functions: code, default arguments, closure, and the globals that they use."""

import dis
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rsalign.core.fingerprint.objects import is_special
from rsalign.core.fingerprint.origin import (
    installed_name,
    is_installed,
    is_local,
    read_source,
    resolve_import,
)
from rsalign.core.fingerprint.values import digest_leaf, hash_parts

if TYPE_CHECKING:
    from rsalign.core.fingerprint.digester import Digester


def digest_function(digester: "Digester", function: types.FunctionType, where: str) -> bytes:
    """Digests a function: its code, defaults, closure and attributes; if installed, its name."""
    home = function.__globals__.get("__name__")
    installed = isinstance(home, str) and is_installed(home)
    if installed and not is_local(function):
        return hash_parts("installed", installed_name(function).encode())
    code = function.__code__
    return hash_parts(
        "function",
        installed_name(function).encode()
        if installed
        else digest_code(digester, code, function.__globals__),
        digester.digest(function.__defaults__, f"the default arguments of {where}"),
        digester.digest(function.__kwdefaults__, f"the default arguments of {where}"),
        *_closure(digester, function, where),
        *digester.digest_named(function.__dict__, where),
    )


def _closure(digester: "Digester", function: types.FunctionType, where: str) -> Iterator[bytes]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            content = cell.cell_contents
        except ValueError:  # it has not been assigned yet
            yield hash_parts("empty")
            continue
        yield digester.digest(content, f"the closure variable {name!r} of {where}")


def digest_code(digester: "Digester", code: types.CodeType, scope: Mapping[str, Any]) -> bytes:
    """Digests code with its constants and with the globals of `scope` that it uses."""
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
        digest_code(digester, constant, scope)
        if isinstance(constant, types.CodeType)
        else digester.digest(constant, "a constant")
        for constant in code.co_consts
    ]
    return hash_parts(
        "code",
        code.co_code,
        getattr(code, "co_exceptiontable", b""),
        repr(shape).encode(),
        *constants,
        *_globals(digester, code, scope),
    )


def _globals(
    digester: "Digester", code: types.CodeType, scope: Mapping[str, Any]
) -> Iterator[bytes]:
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
            imports[resolve_import(str(step.argval), level, package)] = None
    for name in names:
        if name in scope and not is_special(name):
            yield digest_leaf(name)
            yield _global(digester, scope[name], code, name)
    for name in imports:
        module = sys.modules.get(name)
        if module is None:
            yield hash_parts("import", name.encode(), read_source(name))
        else:
            yield _module(digester, module, code.co_names)


def _global(digester: "Digester", value: Any, code: types.CodeType, name: str) -> bytes:
    if isinstance(value, types.ModuleType):
        return _module(digester, value, code.co_names)
    return digester.digest(value, f"the global variable {name!r}")


def _module(digester: "Digester", module: types.ModuleType, names: Iterable[str]) -> bytes:
    """Digests what code that uses these names can reach in a module."""
    if is_installed(module.__name__):
        return hash_parts("module", installed_name(module).encode())
    if id(module) in digester.open:
        return hash_parts("again", str(digester.open[id(module)]).encode())
    digester.open[id(module)] = len(digester.open)
    try:
        digests = [
            _module(digester, value, names)
            if isinstance(value, types.ModuleType)
            else digester.digest(value, f"{module.__name__}.{name}")
            for name in sorted(set(names) & vars(module).keys())
            if not is_special(name)
            for value in (vars(module)[name],)
        ]
    finally:
        del digester.open[id(module)]
    return hash_parts("members", *digests)

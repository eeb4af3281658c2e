"""The origin of functions, classes and modules: installed ones are identified by their names."""

import functools
import importlib.metadata
import importlib.util
import os
import site
import sys
import sysconfig
from pathlib import Path
from typing import Any


@functools.cache
def _places() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    found = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    with_sites = [*found, *site.getsitepackages(), site.getusersitepackages()]
    return tuple(os.path.realpath(one) + os.sep for one in with_sites)


@functools.cache
def is_installed(module: str) -> bool:
    """Whether a module belongs to Python, an installed package, or this package."""
    top = module.partition(".")[0]
    if is_ours(module) or top == "builtins":
        return True
    if module == "__main__" or module not in sys.modules:
        return False
    file = getattr(sys.modules[module], "__file__", None)
    if file is None:
        return top in sys.stdlib_module_names
    return os.path.realpath(str(file)).startswith(_places())


def is_ours(module: str) -> bool:
    """Whether a module belongs to this package."""
    return module.partition(".")[0] == "rsalign"


def installed_name(value: Any) -> str:
    """Returns name and version of an installed function, class or module."""
    module = getattr(value, "__module__", None) or value.__name__
    version = "" if is_ours(module) else _version(module.partition(".")[0])
    return f"{module}.{getattr(value, '__qualname__', '')} {version}"


@functools.cache
def _version(package: str) -> str:
    """Returns the version of an installed package; empty for modules of Python itself."""
    if package in sys.stdlib_module_names:
        return ""
    version = getattr(sys.modules.get(package), "__version__", None)
    if isinstance(version, str):
        return version
    names = importlib.metadata.packages_distributions().get(package, ())
    return " ".join(importlib.metadata.version(name) for name in sorted(set(names)))


def is_local(value: Any) -> bool:
    """Whether a function or class differs from what is installed under its name.

    A function may have created it at run time, or an installed decorator may have given it the name
    of the wrapped function.
    """
    if not is_installed(value.__module__ or ""):
        return True
    found: Any = sys.modules.get(value.__module__)
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is not value


def resolve_import(name: str, level: int, package: str) -> str:
    """Returns the absolute name of the module in an import statement."""
    if not level or not package:
        return name
    return importlib.util.resolve_name("." * level + name, package)


def read_source(module: str) -> bytes:
    """Returns the source of a module that is not installed; empty for all others."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return b""
    if spec is None or not spec.has_location or spec.origin is None:
        return b""
    if os.path.realpath(spec.origin).startswith(_places()):
        return b""
    return Path(spec.origin).read_bytes()

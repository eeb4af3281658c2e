"""Where a function, class or module is from: what is installed is told by its name."""

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
    """Whether a module is Python's, a package's that is installed, or ours."""
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
    """Whether a module is a part of this package."""
    return module.partition(".")[0] == "rsalign"


def installed_name(value: Any) -> str:
    """The name of an installed function, class or (without a qualified name) module."""
    module = getattr(value, "__module__", None) or value.__name__
    version = "" if is_ours(module) else _version(module.partition(".")[0])
    return f"{module}.{getattr(value, '__qualname__', '')} {version}"


@functools.cache
def _version(package: str) -> str:
    """The version of an installed package; empty for Python's own modules."""
    if package in sys.stdlib_module_names:
        return ""
    version = getattr(sys.modules.get(package), "__version__", None)
    if isinstance(version, str):
        return version
    names = importlib.metadata.packages_distributions().get(package, ())
    return " ".join(importlib.metadata.version(name) for name in sorted(set(names)))


def is_local(value: Any) -> bool:
    """Whether a function or class is not the installed one that its name stands for.

    It may have been made anew by some function. Or an installed decorator gave it the name of the
    function that it wraps, which is not installed.
    """
    if not is_installed(value.__module__ or ""):
        return True
    found: Any = sys.modules.get(value.__module__)
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is not value


def absolute(name: str, level: int, package: str) -> str:
    """The module that an import statement names in a package."""
    if not level or not package:
        return name
    return importlib.util.resolve_name("." * level + name, package)


def source(module: str) -> bytes:
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

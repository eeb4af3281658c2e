"""Packages that only some runs need."""

import importlib
from typing import Any

from rsalign import InstallError


def require(module: str, purpose: str, package: str | None = None) -> Any:
    """Imports a module, or says how to get it.

    Args:
        module: its name.
        purpose: what needs it, for the message.
        package: what installs it; default: the first part of the module's name.

    Raises:
        InstallError: if it is missing.
    """
    package = package or module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InstallError(f"{purpose}: install {package} (pip install {package})") from error

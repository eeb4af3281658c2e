"""Says in words what a start is doing, because it may take a minute.

The lines go to the logger ``rsalign.start``, at INFO. Where logging is not set up to show them,
they are written to standard error, if that is a terminal.
"""

import contextlib
import importlib.util
import logging
import os
import sys
import time
from collections.abc import Iterator

logger = logging.getLogger("rsalign.start")


def show_start_progress() -> None:
    """Shows the lines on standard error, also where it is no terminal; for commands."""
    if logger.isEnabledFor(logging.INFO) and logger.hasHandlers():
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


@contextlib.contextmanager
def say_while(doing: str) -> Iterator[None]:
    """Says what is being done in a block, and how long it took.

    Args:
        doing: such as "starting an engine for org/model".

    Example:
        >>> show_start_progress()
        >>> with say_while("starting nothing"):
        ...     pass
    """
    _say(f"{doing} ...")
    started = time.perf_counter()
    yield
    _say(f"{doing}: done after {time.perf_counter() - started:.1f} s")


def say_import(module: str) -> contextlib.AbstractContextManager[None]:
    """Says that a module is being imported, if it is not yet; `say_while` for imports."""
    if module in sys.modules:
        return contextlib.nullcontext()
    first = "" if _is_compiled(module) else ", and compiling it, as after each installation"
    return say_while(f"importing {module}{first}")


def _is_compiled(module: str) -> bool:
    """Whether Python has kept the byte code of a module; true if there is no such module."""
    found = importlib.util.find_spec(module)
    if found is None or not found.origin or not found.cached:
        return True
    return os.path.exists(found.cached)


def _say(line: str) -> None:
    if logger.isEnabledFor(logging.INFO) and logger.hasHandlers():
        logger.info(line)
    elif sys.stderr.isatty():
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

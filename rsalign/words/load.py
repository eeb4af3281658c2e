"""Code of the user's own, named ``module:name``."""

import importlib
import os
import re
import sys
from pathlib import Path
from typing import Any

from rsalign.core.errors import ConfigError
from rsalign.words.messages import clip

_REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def is_reference(text: str) -> bool:
    """Whether a text has the form ``module:name``, and is no path of a file or folder.

    >>> is_reference("judges.own:score"), is_reference("http://host:1"), is_reference("org/model")
    (True, False, False)
    """
    return _REFERENCE.fullmatch(text) is not None and not Path(text).exists()


def load(what: str, reference: str) -> Any:
    """The function, class or object that ``module:name`` refers to.

    The module is looked for in the current directory first, as ``python -m module`` does; the
    directory stays on `sys.path`, so that worker processes find the module, too.

    Args:
        what: the kind of part, for messages.
        reference: such as ``judges.own:score``; the name may have dots.

    Raises:
        ConfigError: if it cannot be imported, whatever the module raises, or has no such name.
    """
    module, _, name = reference.partition(":")
    here = str(Path.cwd())
    if here not in map(os.path.abspath, sys.path):
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
        for attribute in name.split("."):
            found = getattr(found, attribute)
    except (Exception, SystemExit) as error:  # the module's own code runs here
        reason = clip(f"{type(error).__name__}: {error}", 400)
        raise ConfigError(
            f"cannot load {what} {clip(reference, 80)!r}: {reason}. The module is looked for in "
            "the current directory and where Python finds installed packages"
        ) from error
    return found

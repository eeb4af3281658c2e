"""Where fetched tokenizers and built checkpoints lie: outside the repository, shared by all clones.

``RSALIGN_FAMILIES`` names another folder than ``~/.cache/rsalign/families``.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

VARIABLE = "RSALIGN_FAMILIES"


def root() -> Path:
    """The cache's folder, which need not exist."""
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get(VARIABLE) or user_cache / "rsalign" / "families")


def place(target: Path, write: Callable[[Path], None]) -> Path:
    """Has ``write`` fill a new folder, which becomes ``target`` only when it is whole.

    Processes that do this at the same time get one whole folder, whichever of theirs it is.
    """
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".writing-") as scratch:
        folder = Path(scratch) / target.name
        folder.mkdir()
        write(folder)
        try:
            folder.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was first
                raise
    return target

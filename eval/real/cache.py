"""Where the real models are: a folder outside the repository, which ``make real`` fills.

The folder is ``$RSALIGN_REAL`` if that is set, and ``~/.cache/rsalign/real`` if not. It holds an
ordinary checkpoint for each of `MODELS`; that of a reward has its figures in `METRICS`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rsalign import ConfigError

MODELS = ("policy", "sentiment", "hh")
"""The policy, and the rewards for film reviews and for dialogues."""


METRICS = "metrics.json"


def folder() -> Path:
    """The folder of the cache; it need not exist."""
    if given := os.environ.get("RSALIGN_REAL"):
        return Path(given).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "rsalign" / "real"


def find_model(name: str) -> str:
    """The path of a model in the cache.

    Args:
        name: one of `MODELS`.

    Raises:
        ConfigError: if there is no such model, or it has not been made yet.
    """
    if name not in MODELS:
        raise ConfigError(f"real model {name!r}: there are {', '.join(MODELS)}")
    found = folder() / name
    if not (found / "config.json").is_file():
        raise ConfigError(
            f"the real model {name!r} is not in {folder()}: `make real` fetches and trains it "
            "(RSALIGN_REAL names another folder)"
        )
    return str(found)


@contextmanager
def complete_folder(path: Path) -> Iterator[Path]:
    """A folder to write in, which stands at `path` only once all of it is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as beside:
        partial = Path(beside) / path.name
        partial.mkdir()
        yield partial
        partial.rename(path)

"""Rows of a data set: from a local file or folder, the bundled sample or a Hugging Face id.

`path` follows the field's convention for models: what exists on this machine is read, and anything
else of the form ``owner/name`` is a Hugging Face id.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from eval.tasks.hub import read_hub
from rsalign import ConfigError
from rsalign.core.text.rows import FORMATS, file_format
from rsalign.core.text.rows import read_rows as read_file_rows

Row: TypeAlias = Mapping[str, Any]

BUNDLED = "bundled"
"""As a `path`: the small sample in ``eval/data``, for tests and first tries."""

DATA = Path(__file__).resolve().parent.parent / "data"

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def read_rows(
    path: str,
    *,
    split: str,
    limit: int | None,
    bundled: str | None = None,
    subset: str | None = None,
    hub_file: str | None = None,
) -> list[Row]:
    """The first `limit` rows of a data set, in its order.

    Args:
        path: a file (JSON lines, a JSON list, CSV, each perhaps gzipped, or Parquet; see
            `rsalign.core.text.rows`), a folder with one such file or one whose name has `split` as
            a word,
            `BUNDLED`, or a Hugging Face id ``owner/name`` or ``owner/name@revision``.
        split: the split's name at the hub, and in the names of a folder's files.
        limit: None reads all.
        bundled: the sample's file below ``eval/data``; None if its licence allows none.
        subset: the configuration's name at the hub.
        hub_file: the JSON file to read at the hub, for repositories that are no plain data sets.

    Raises:
        ConfigError: if there is nothing at `path`, it is ambiguous, or holds no rows.
        InstallError: if a package that reads it is missing.
    """
    found: list[Row]
    local = Path(path).expanduser()
    if path == BUNDLED:
        if bundled is None:
            raise ConfigError(
                f"path={path!r}: this data set's licence does not let it be bundled; give the path "
                "of a file, or its Hugging Face id"
            )
        found = _read_file(DATA / bundled)
    elif local.exists():
        found = _read_file(_file_at(local, split))
    elif _HUB_ID.fullmatch(path):
        try:
            found = [*read_hub(path, split=split, subset=subset, hub_file=hub_file)]
        except ConfigError as error:
            if bundled is None:
                raise
            raise ConfigError(f"{error}; task.path={BUNDLED} has a sample of it") from error
    else:
        raise ConfigError(
            f"path={path!r}: there is no such file or folder, and it is no Hugging Face id "
            f"(owner/name){'' if bundled is None else f', nor {BUNDLED!r}'}"
        )
    if not found:
        raise ConfigError(f"path={path!r}, split={split!r}: there are no rows in it")
    return found[:limit]


def require_bundled(path: str, **settings: tuple[str, str]) -> None:
    """Refuses the bundled sample under settings that it is not a sample of.

    Args:
        path: of the task.
        settings: by name, what is asked for and what is bundled.

    Raises:
        ConfigError: if they differ and `path` is ``"bundled"``.
    """
    for name, (asked, has) in settings.items():
        if path == BUNDLED and asked != has:
            raise ConfigError(
                f"{name}={asked!r}: of this task only {name}={has!r} is bundled; give the path of "
                "a file, or its Hugging Face id"
            )


def column(row: Row, *names: str) -> Any:
    """The first column of these names that the row has.

    Raises:
        ConfigError: if it has none of them.
    """
    for name in names:
        if name in row:
            return row[name]
    raise ConfigError(
        f"a row has no column {' or '.join(map(repr, names))}, but {', '.join(map(repr, row))}: "
        "give a data set in the form that the task's documentation tells"
    )


def _file_at(path: Path, split: str) -> Path:
    if not path.is_dir():
        return path
    files = sorted(file for file in path.iterdir() if file_format(file) in FORMATS)
    word = re.compile(rf"(?<![a-z0-9]){re.escape(split)}(?![a-z0-9])", re.IGNORECASE)
    named = [file for file in files if word.search(file.name.split(".")[0])]
    for found in (named, files):
        if len(found) == 1:
            return found[0]
    raise ConfigError(
        f"path={str(path)!r}, split={split!r}: the folder must hold one data file, or one whose "
        f"name has the split as a word; it holds {[file.name for file in files]} (of the kinds "
        f"{', '.join(FORMATS)}, gzipped or not): give the path of the file"
    )


def _read_file(file: Path) -> list[Row]:
    if file_format(file) not in FORMATS:
        raise ConfigError(
            f"path={str(file)!r}: the kind of file is told by its name, which must end in one of "
            f"{', '.join(FORMATS)} (gzipped: .jsonl.gz)"
        )
    found = read_file_rows(str(file))
    for row in found:
        if not isinstance(row.value, Mapping):
            raise ConfigError(
                f"path={str(file)!r} cannot be read as {file_format(file)}: {row.place} is a "
                f"{type(row.value).__name__}, and must be an object with a value for each column"
            )
    return [row.value for row in found]

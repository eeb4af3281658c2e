"""Rows of a data set: from a local file or folder, the bundled sample or a Hugging Face id.

`path` follows the field's convention for models: what exists on this machine is read, and anything
else of the form ``owner/name`` is a Hugging Face id.
"""

import csv
import gzip
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from eval.tasks.hub import read_hub
from rsalign import ConfigError, InstallError

Row: TypeAlias = Mapping[str, Any]

BUNDLED = "bundled"
"""As a `path`: the small sample in ``eval/data``, for tests and first tries."""

DATA = Path(__file__).resolve().parent.parent / "data"

_FORMATS = (".jsonl", ".json", ".csv", ".parquet")
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
        path: a file (JSON lines, a JSON list, CSV, each perhaps gzipped, or Parquet), a folder with
            one such file or one whose name has `split` as a word, `BUNDLED`, or a Hugging Face id
            ``owner/name`` or ``owner/name@revision``.
        split: the split's name at the hub, and in the names of a folder's files.
        limit: None reads all.
        bundled: the sample's file below ``eval/data``; None if its licence allows none.
        subset: the configuration's name at the hub.
        hub_file: the JSON file to read at the hub, for repositories that are no plain data sets.

    Raises:
        ConfigError: if there is nothing at `path`, it is ambiguous, or holds no rows.
        InstallError: if a package that reads it is missing.
    """
    rows: list[Row]
    local = Path(path).expanduser()
    if path == BUNDLED:
        if bundled is None:
            raise ConfigError(
                f"path={path!r}: this data set's licence does not let it be bundled; give the path "
                "of a file, or its Hugging Face id"
            )
        rows = _read_file(DATA / bundled)
    elif local.exists():
        rows = _read_file(_file_at(local, split))
    elif _HUB_ID.fullmatch(path):
        rows = [*read_hub(path, split=split, subset=subset, hub_file=hub_file)]
    else:
        raise ConfigError(
            f"path={path!r}: there is no such file or folder, and it is no Hugging Face id "
            f"(owner/name){'' if bundled is None else f', nor {BUNDLED!r}'}"
        )
    if not rows:
        raise ConfigError(f"path={path!r}, split={split!r}: there are no rows in it")
    return rows[:limit]


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
    files = sorted(file for file in path.iterdir() if _format(file) in _FORMATS)
    word = re.compile(rf"(?<![a-z0-9]){re.escape(split)}(?![a-z0-9])", re.IGNORECASE)
    named = [file for file in files if word.search(file.name.split(".")[0])]
    for found in (named, files):
        if len(found) == 1:
            return found[0]
    raise ConfigError(
        f"path={str(path)!r}, split={split!r}: the folder must hold one data file, or one whose "
        f"name has the split as a word; it holds {[file.name for file in files]} (of the kinds "
        f"{', '.join(_FORMATS)}, gzipped or not): give the path of the file"
    )


def _format(file: Path) -> str:
    return (file.with_suffix("") if file.suffix == ".gz" else file).suffix


def _read_file(file: Path) -> list[Row]:
    form = _format(file)
    if form not in _FORMATS:
        raise ConfigError(
            f"path={str(file)!r}: the kind of file is told by its name, which must end in one of "
            f"{', '.join(_FORMATS)} (gzipped: .jsonl.gz)"
        )
    if form == ".parquet":
        return _read_parquet(file)
    raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
        if form == ".csv":
            return list(csv.DictReader(io.StringIO(text, newline="")))
        if form == ".json":
            return list(json.loads(text))
        # not splitlines(): a JSON string may hold U+2028, which is no line's end here
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, TypeError) as broken:
        raise ConfigError(f"path={str(file)!r} cannot be read as {form}: {broken}") from broken


def _read_parquet(file: Path) -> list[Row]:
    try:
        import pyarrow.parquet
    except ImportError as missing:
        raise InstallError(
            f"reading {str(file)!r} needs pyarrow, which is not installed: pip install pyarrow, or "
            "give the data as JSON lines"
        ) from missing
    return [*pyarrow.parquet.read_table(file).to_pylist()]

"""Records: one line for each (configuration, item, seed), appended and never rewritten."""

import contextlib
import json
import logging
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

from rsalign import ConfigError
from rsalign.core.append_only import AppendOnlyFile

logger = logging.getLogger(__name__)

SCHEMA = 4
Record: TypeAlias = Mapping[str, Any]
"""JSON data; `eval.record` says what is in it."""


class RecordFile:
    """An append-only file of JSON lines, with one writer at a time.

    A line that a kill cut short is dropped on opening, and a damaged line is passed over with a
    warning; what they held is answered again.

    Args:
        path: the file; its folder must exist.

    Attributes:
        done: what has a record without an error, as (item, seed), with its ``fingerprints``.

    Raises:
        ConfigError: if another process is writing, or the file is of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = AppendOnlyFile(path, "the records", instead="change `output`")
        try:
            records = _parsed(self._file.lines(), path)
        except ConfigError:
            self._file.close()
            raise
        self.done: dict[tuple[str, int], Mapping[str, str]] = {
            (record["item"], record["seed"]): record["fingerprints"]
            for record in records
            if record["error"] is None
        }

    def append(self, record: Record) -> None:
        """Adds a record; it is safe from a kill when this returns."""
        self._file.append(_encoded(record))
        if record["error"] is None:
            self.done[record["item"], record["seed"]] = record["fingerprints"]

    def __enter__(self) -> "RecordFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()


def read_records(path: Path) -> list[Record]:
    """The records of a file, the last of each (item, seed), in order of item and seed.

    An item that failed and was answered later counts once, by its answer. A damaged line is passed
    over with a warning.

    Raises:
        ConfigError: if it is no such file, or of another version.
    """
    try:
        *whole, _ = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    latest = {(record["item"], record["seed"]): record for record in _parsed(whole, path)}
    return [latest[key] for key in sorted(latest)]


def write_parquet(records: Sequence[Record], path: Path) -> None:
    """The records as a table, nested parts as JSON text; replaced in one move.

    Raises:
        InstallError: if pyarrow is missing.
    """
    from eval.optional import require

    pyarrow = require("pyarrow", "records in Parquet")
    parquet = require("pyarrow.parquet", "records in Parquet")
    large = {name for record in records for name, value in record.items() if _is_large(value)}
    rows = [
        {name: str(value) if name in large else _cell(value) for name, value in record.items()}
        for record in records
    ]
    with replace_file(path) as partial:
        parquet.write_table(pyarrow.Table.from_pylist(rows), partial)


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """A file to write, which takes the place of `path` in one move when all went well.

    Each writer has a file of its own, so that of two at once the later one wins as a whole.
    """
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _is_large(value: Any) -> bool:
    """Whether a value is a whole number of more than 64 bits, such as a seed may be."""
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False)
    if isinstance(value, str):  # a lone surrogate has no UTF-8, which a table wants
        return value.encode(errors="backslashreplace").decode()
    return value


def _encoded(record: Record) -> bytes:
    """A record as one line; a text that has no UTF-8 (a lone surrogate) is escaped."""
    try:
        return json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(record).encode()


def _parsed(lines: Iterable[bytes], path: Path) -> list[Record]:
    """Reads the lines of a file; those that are no JSON are passed over, if others are."""
    records: list[Record] = []
    damaged: list[int] = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError:
            damaged.append(number)
            continue
        if not isinstance(record, dict) or record.get("schema") != SCHEMA:
            raise ConfigError(
                f"{path}, line {number}: a record of another version than {SCHEMA}: use the "
                "rsalign that wrote it, or another output folder"
            )
        records.append(record)
    if damaged and not records:
        raise ConfigError(f"{path} is not a file of records: no line of it is JSON")
    if damaged:
        logger.warning(
            "%s: %s damaged and passed over; what they held is answered again by the command that "
            "wrote the file",
            path,
            f"line {damaged[0]} is" if len(damaged) == 1 else f"lines {damaged} are",
        )
    return records

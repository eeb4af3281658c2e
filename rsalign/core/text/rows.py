"""Reading rows of data files in any common format, encoding and compression.

The name of a file says its format (``.jsonl``, ``.ndjson``, ``.json``, ``.csv``, ``.tsv`` or
``.parquet``, optionally followed by ``.gz``, ``.bz2`` or ``.xz``). Compression, Parquet and the
encoding are also recognized by content, so that standard input works like a file.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsalign.core.errors import ConfigError, InstallError

FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
"""Supported suffixes of file names."""

_PARQUET = b"PAR1"
_COMPRESSED = {
    re.compile(rb"\x1f\x8b"): gzip.decompress,
    re.compile(rb"BZh[1-9]1AY&SY"): bz2.decompress,
    re.compile(rb"\xfd7zXZ\0"): lzma.decompress,
}
"""How compressed content begins, and the function that decompresses it."""
_UNREADABLE = {
    b"PK\x03\x04": "a zip archive (or a spreadsheet, which is one)",
    b"\x28\xb5\x2f\xfd": "compressed with Zstandard",
}
"""How unsupported content begins, and its name for messages."""
_ENDS = (".gz", ".bz2", ".xz")
_LINE_END = re.compile("\r\n|\n|\r")  # not splitlines(): a text may contain U+2028 and similar
_SPACE = re.compile(r"[ \t\r\n]*")
_JSON_ARRAY = re.compile(r'\s*\[\s*([{"\]]|$)')


@dataclass(frozen=True, slots=True)
class Row:
    """One value of a file.

    Attributes:
        place: its position for messages: ``"line 3"`` in files of lines, ``"row 2"`` in others.
        value: a JSON value, or the text of a line.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "prompts.jsonl")
        ...     _ = file.write_text('{"prompt": "Hello"}')
        ...     read_rows(str(file))
        [Row(place='line 1', value={'prompt': 'Hello'})]
    """

    place: str
    value: Any


def file_format(path: Path) -> str:
    """Returns the suffix of a file name that says its format, without that of the compression.

    Example:
        >>> file_format(Path("prompts.jsonl.gz"))
        '.jsonl'
    """
    return (path.with_suffix("") if path.suffix.lower() in _ENDS else path).suffix.lower()


def read_bytes(path: str) -> bytes:
    """Returns the decompressed content of a file or of standard input (``-``).

    Raises:
        ConfigError: if it cannot be read.
    """
    try:
        raw = sys.stdin.buffer.read() if path == "-" else Path(path).expanduser().read_bytes()
        for beginning, decompress in _COMPRESSED.items():
            if beginning.match(raw):
                return decompress(raw)
    except IsADirectoryError as error:
        raise ConfigError(f"{path} is a folder: give the path of a file in it") from error
    # ValueError: a NUL in the path
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise ConfigError(f"cannot read {_shown(path)}: {error}") from error
    for start, what in _UNREADABLE.items():
        if raw.startswith(start):
            raise ConfigError(
                f"cannot read {_shown(path)}: it is {what}. Unpack it first; gzip, bzip2 and xz "
                "are read as they are"
            )
    return raw


def read_rows(path: str) -> list[Row]:
    """Returns the rows of a file or of standard input (``-``).

    A file without a known suffix is JSON if it begins like JSON (with ``{``, or with ``[`` followed
    by ``{`` or a string) or is a JSON array as a whole. Otherwise it is text, and each line is one
    row. Empty lines are omitted, and so are byte order marks at the beginning of lines, which
    concatenated files have. Each item of a JSON array is one row, unless the array is a
    conversation (all items are objects with a ``"role"``), which is one row.

    Raises:
        ConfigError: if the file cannot be read, does not have the format that its name or beginning
            says, or has a name twice in an object or in the first line of a table (a value would be
            lost).
        InstallError: if the file is Parquet and pyarrow is missing.
    """
    raw = read_bytes(path)
    form = file_format(Path(path)) if path != "-" else ""
    if raw.startswith(_PARQUET):
        form = ".parquet"
    try:
        if form == ".parquet":
            return _numbered(_read_parquet(raw))
        text = decode(raw)
        if form in (".csv", ".tsv"):
            return _numbered(_read_table(text, "," if form == ".csv" else "\t"))
        if form in FORMATS or _begins_as_json(text):
            form = form if form in FORMATS else "JSON"
            return _read_json(text)
    except (ValueError, csv.Error) as error:
        raise ConfigError(f"{_shown(path)} cannot be read as {form or 'text'}: {error}") from error
    return [Row(f"line {number}", line) for number, line in _lines(text)]


def decode(raw: bytes) -> str:
    """Decodes text in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises:
        ValueError: if it is in another encoding.
    """
    try:
        return raw.decode(json.detect_encoding(raw))
    except UnicodeDecodeError as error:
        raise ValueError(f"{error}; save it as UTF-8, such as by iconv -t UTF-8") from error


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yields the lines that are not empty, with their numbers from 1."""
    for number, line in enumerate(_LINE_END.split(text), 1):
        line = line.removeprefix("\ufeff")
        if line.strip():
            yield number, line


def _read_json(text: str) -> list[Row]:
    """Reads JSON lines, one JSON array, or JSON values that span several lines each."""
    numbered = list(_lines(text))
    try:
        rows = [Row(f"line {number}", _parse(line)) for number, line in numbered]
    except ValueError as by_line:
        try:
            rows = _read_values(text)
        except ValueError as as_a_whole:
            # a file with a complete value on its first line is meant to be JSON lines
            first, line = numbered[0]
            starts_whole = _is_json(line)
            wrong = next(number for number, line in numbered if not _is_json(line))
            if starts_whole:
                raise ValueError(f"line {wrong} is not JSON: {by_line}") from by_line
            raise ValueError(f"line {first} is not JSON: {as_a_whole}") from as_a_whole
    if len(rows) == 1 and isinstance(rows[0].value, list) and not _is_conversation(rows[0].value):
        return _numbered(rows[0].value)
    return rows


def _is_conversation(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(each, dict) and "role" in each for each in values)


def _read_values(text: str) -> list[Row]:
    """Reads consecutive JSON values."""
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    rows: list[Row] = []
    position = 0
    while True:
        position = _SPACE.match(text, position).end()  # type: ignore[union-attr]
        if position == len(text):
            return rows
        place = f"line {len(_LINE_END.findall(text, 0, position)) + 1}"
        try:
            value, position = decoder.raw_decode(text, position)
        except RecursionError as deep:
            raise ValueError(str(deep)) from deep
        rows.append(Row(place, value))


def _begins_as_json(text: str) -> bool:
    """Whether a text is meant to be JSON; a plain prompt may begin with a bracket, too."""
    if text.lstrip()[:1] == "{" or _JSON_ARRAY.match(text):
        return True
    return text.lstrip()[:1] == "[" and _is_json(text)


def _is_json(line: str) -> bool:
    try:
        _parse(line)
    except ValueError:
        return False
    return True


def _parse(line: str) -> Any:
    try:
        return json.loads(line, object_pairs_hook=_object)
    except RecursionError as deep:
        raise ValueError(str(deep)) from deep


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _refuse_repeated(name for name, _ in pairs)
    return dict(pairs)


def _refuse_repeated(names: Iterable[str]) -> None:
    """Refuses a repeated name, whose first value Python's readers would silently drop.

    Raises:
        ValueError: if a name occurs twice.
    """
    name, number = next(iter(Counter(names).most_common(1)), ("", 0))
    if number > 1:
        raise ValueError(f"{name[:80]!r} occurs {number} times: use each name once")


def _read_table(text: str, delimiter: str) -> list[dict[str, str]]:
    limit = csv.field_size_limit(sys.maxsize)  # the default of 128 KiB is less than some prompts
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        _refuse_repeated(name for name in reader.fieldnames or () if name)
        found = list(reader)
    finally:
        csv.field_size_limit(limit)
    for number, row in enumerate(found, 1):
        if None in row:
            raise ValueError(f"row {number} has more cells than the first line")
    return found


def _read_parquet(raw: bytes) -> list[dict[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as missing:
        raise InstallError(
            "Parquet needs pyarrow, which is not installed: pip install pyarrow, or give the data "
            "as JSON lines"
        ) from missing
    try:
        _refuse_repeated(pyarrow.parquet.read_schema(io.BytesIO(raw)).names)
        return [*pyarrow.parquet.read_table(io.BytesIO(raw)).to_pylist()]
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(str(error)) from error


def _numbered(values: list[Any]) -> list[Row]:
    return [Row(f"row {number}", value) for number, value in enumerate(values, 1)]


def _shown(path: str) -> str:
    return "standard input" if path == "-" else path

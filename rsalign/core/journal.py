"""Journal: a file of every draw and every reward, so that a killed run continues where it stopped.

The address of a request is a digest of everything that its answer depends on: the fingerprint of
the policy or reward that is asked (`rsalign.core.fingerprint`) and all arguments. A run that is
started again with the same journal replays the recorded answers at no cost and pays only for the
rest. A longer run (n = 8 after n = 4) pays only for the difference. The result equals that of a run
that was never interrupted. If a part or its settings change, its addresses change, and nothing of
the old records is replayed.

The records are written and read by `rsalign.core.journaled`.
"""

import contextlib
import hashlib
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rsalign.core.append_only import AppendOnlyFile, LineReader
from rsalign.core.checks import check_value, part, quote
from rsalign.core.errors import ConfigError
from rsalign.core.fingerprint import fingerprint, name_of
from rsalign.core.text.chat_options import today

logger = logging.getLogger(__name__)

_FORMAT = "rsalign journal 3"
_REMEMBERED = 64
"""Number of parts whose fingerprints are remembered, to warn when one changes."""


@dataclass(frozen=True, slots=True)
class JournalStatistics:
    """How often a journal was read and written.

    Attributes:
        replayed: requests that were answered from records.
        recorded: requests that were made and recorded.

    Example:
        >>> JournalStatistics(replayed=3, recorded=1).replayed
        3
    """

    replayed: int
    recorded: int


class Journal:
    """An append-only file of requests and their answers.

    A record is one line. A line that a kill cut short is dropped on opening, and its request is
    made again. One process at a time can write a journal (`AppendOnlyFile`). Memory holds the
    positions of records, not their content.

    Args:
        path: the file; created if it does not exist.
        also: further journals whose records are replayed, too. They are indexed once, on opening,
            and never written; other processes may be writing them meanwhile.

    Raises:
        ConfigError: if a file is not a journal of this version, or if another process writes
            `path`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, Journal(f"{folder}/journal") as journal:
        ...     journal.record(request_address("score", "a reward", "a response"), [0.5])
        ...     journal.find(request_address("score", "a reward", "a response"))
        [0.5]
    """

    def __init__(self, path: str | Path, *, also: Iterable[Path] = ()) -> None:
        self.path = Path(check_value("Journal", "path", path, str | Path, part("a file's path")))
        # by address: where the record is; a record is parsed only when it is replayed
        self._records: dict[str, tuple[LineReader, int, int]] = {}
        self._replayed = self._recorded = 0
        self._held: dict[int, _Held] = {}
        self._last: OrderedDict[int, tuple[object, str]] = OrderedDict()
        self._lock = threading.Lock()  # runs may begin and end on several threads
        self._file = AppendOnlyFile(self.path, "the journal")
        try:
            for other in also:
                self._index(LineReader(other.absolute()), other)
            if not self._index(self._file, self.path):
                self._file.append(json.dumps(_FORMAT).encode())
        except BaseException:
            self._file.close()
            raise

    def fingerprint_of(self, part: object) -> str:
        """Returns the fingerprint under which the answers of a policy or reward are recorded.

        Raises:
            ConfigError: if the part has none (`rsalign.core.fingerprint`).
        """
        held = self._held.get(id(part))
        if held is not None:
            return held.fingerprint
        word = fingerprint(part)
        with self._lock:
            _, before = self._last.pop(id(part), (part, word))
            self._last[id(part)] = (part, word)
            if len(self._last) > _REMEMBERED:
                self._last.popitem(last=False)
        if word != before:
            logger.warning(
                "%s has changed since this journal first saw it: none of its earlier answers is "
                "replayed. If only a counter or a cache in it has changed, give it a fingerprint "
                "(see rsalign.core.fingerprint)",
                name_of(part),
            )
        return word

    @contextlib.asynccontextmanager
    async def hold_fingerprints(self, *parts: object) -> AsyncIterator[None]:
        """Fixes the fingerprints of these parts while the block runs.

        A reward that counts its calls or caches values then stays the same reward for the whole
        run, while one whose settings are changed is another reward in the next run.

        Raises:
            ConfigError: if a part has no fingerprint; nothing was drawn yet.
        """
        words = [(part, self.fingerprint_of(part)) for part in parts if part is not None]
        with self._lock:
            for part, word in words:
                self._held.setdefault(id(part), _Held(part, word)).runs += 1
        try:
            yield
        finally:
            with self._lock:
                for part, _ in words:
                    held = self._held[id(part)]
                    held.runs -= 1
                    if not held.runs:
                        del self._held[id(part)]

    def find(self, request: str) -> Any | None:
        """Returns the recorded answer to a request; None if there is none.

        Args:
            request: the address of the request (`request_address`).
        """
        record = self._records.get(request)
        if record is None:
            return None
        file, start, size = record
        self._replayed += 1
        _, answer = json.loads(file.read(start, size))
        return answer

    def record(self, request: str, answer: Any) -> None:
        """Appends an answer, as JSON data; it survives a kill of the process from then on."""
        line = json.dumps([request, answer], default=_plain_number).encode()
        self._records[request] = self._file, self._file.append(line), len(line)
        self._recorded += 1

    def date(self) -> str:
        """Returns the day that chat templates write into prompts, such as ``"2026-11-30"``.

        It is the day of the first prompt that needed it, so that a journal that is continued on
        another day has the same prompts.
        """
        request = request_address("the date of prompts")
        found = self.find(request)
        if found is not None:
            self._replayed -= 1  # it is no answer of a policy or a reward
            return str(found)
        date = today()
        self.record(request, date)
        self._recorded -= 1
        return date

    def statistics(self) -> JournalStatistics:
        """Returns how often it was read and written since it was opened."""
        return JournalStatistics(self._replayed, self._recorded)

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        self._file.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _index(self, file: LineReader, path: Path) -> bool:
        """Notes where each record of a file is; False if the file is empty."""
        first: bytes | None = None
        for number, (start, line) in enumerate(file.scan(), 1):
            if not line:
                continue
            if first is None:
                first = line
                _check_format(line, path)
                continue
            begin, *rest = line.split(b'"', 2)
            if begin != b"[" or len(rest) != 2 or not line.endswith(b"]"):
                raise ConfigError(
                    f"the journal {path} is damaged: line {number} is {quote(line)}, which is no "
                    "record; remove that line, or choose another path"
                )
            self._records[rest[0].decode()] = file, start, len(line)
        return first is not None


def _check_format(first_line: bytes, path: Path) -> None:
    if first_line == json.dumps(_FORMAT).encode():
        return
    if first_line.startswith(b'"rsalign journal '):
        raise ConfigError(
            f"the journal {path} is of another version of rsalign (it is {first_line.decode()}, "
            f"and this version writes {_FORMAT!r}), whose records do not tell reliably which "
            "policy or reward gave an answer: choose another path, or continue with the version "
            "that began it"
        )
    raise ConfigError(f"{path} is not a journal: choose another path")


def request_address(*parts: Any) -> str:
    """Returns the address of a request: a digest of everything that its answer depends on."""
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _plain_number(value: Any) -> Any:
    """Converts a NumPy number, which JSON does not know."""
    return value.item()


@dataclass(slots=True)
class _Held:
    """A part that open runs use, and its fingerprint when the first of them began."""

    part: object  # a reference, so that no other object gets its id
    fingerprint: str
    runs: int = 0

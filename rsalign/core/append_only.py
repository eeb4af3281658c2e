"""Append-only files of lines that survive a kill, and locks that admit one writing process."""

import contextlib
import errno
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from typing_extensions import override

from rsalign.core.errors import ConfigError

logger = logging.getLogger(__name__)

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""Errors of file systems without locks, such as some network file systems."""


class LineReader:
    """A file of lines that is read by position; it is open only while it is read.

    Args:
        path: the file.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w") as file:
        ...     print("first", file=file)
        ...     print("second", file=file, flush=True)
        ...     reader = LineReader(file.name)
        ...     print(list(reader.scan()), reader.read(6, 3))
        [(0, b'first'), (6, b'second')] b'sec'
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def scan(self) -> Iterator[tuple[int, bytes]]:
        """Yields the position and the content of each complete line."""
        start = 0
        with self.path.open("rb") as reader:
            for line in reader:
                if not line.endswith(b"\n"):
                    self._found_torn_line(start)
                    return
                yield start, line[:-1]
                start += len(line)

    def _found_torn_line(self, start: int) -> None:
        """The last line was cut short by a kill, or is being written at this moment."""

    def read(self, start: int, size: int) -> bytes:
        """Reads `size` bytes from position `start`."""
        with self.path.open("rb", buffering=0) as file:
            file.seek(start)
            return file.read(size)


class AppendOnlyFile(LineReader):
    """A file of lines that survives a kill of the process and has one writer at a time.

    After `append` returns, a kill of the process cannot lose the line. A line that a kill cut short
    is removed when the file is opened and read. A process that opens a file that another one is
    writing is refused, and so is a second opening in the same process. The lock ends with the
    process. Where locks do not exist (Windows, some network file systems), the caller must prevent
    two writers; on network file systems a warning says so.

    Args:
        path: the file; created if it does not exist. Its folder must exist.
        what: name of the file in messages: "the journal".
        instead: advice in the message that the file is in use.

    Raises:
        ConfigError: if the file cannot be opened, or another process writes it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with AppendOnlyFile(f"{folder}/records", "the file of records") as file:
        ...         _ = file.append(b"first"), file.append(b"second")
        ...         file.lines()
        [b'first', b'second']
    """

    def __init__(
        self, path: str | Path, what: str, *, instead: str = "choose another path"
    ) -> None:
        super().__init__(path)
        self._what = what
        self._position = threading.Lock()  # the file has one position for all threads
        try:
            self._file: IO[bytes] = self.path.open("a+b", buffering=0)
        except OSError as error:
            raise ConfigError(f"cannot open {what} {path}: {error}") from error
        if not take_lock(self._file):
            self._file.close()
            raise ConfigError(
                f"{what} {path} is in use: it is being written by another process; wait for it, or "
                f"{instead}"
            )

    @override
    def _found_torn_line(self, start: int) -> None:
        self._file.truncate(start)

    def lines(self) -> list[bytes]:
        """Returns the complete lines; a line that was cut short is removed from the file."""
        return [line for _, line in self.scan()]

    def append(self, line: bytes) -> int:
        """Appends a line, which then survives a kill of the process; returns its position.

        Raises:
            OSError: if only a part of it could be written; the file is then as it was before.
        """
        line += b"\n"
        with self._position:
            start = self._file.seek(0, os.SEEK_END)
            written = self._file.write(line)
            if written != len(line):  # the next line must not be joined to this part
                self._file.truncate(start)
                raise OSError(
                    errno.ENOSPC,
                    f"only a part of a line could be written to {self._what} {self.path}",
                )
        return start

    @override
    def read(self, start: int, size: int) -> bytes:
        with self._position:
            self._file.seek(start)
            return self._file.read(size)

    def close(self) -> None:
        """Closes the file and releases its lock; a second call does nothing."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@contextlib.contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Runs a block while no other process is in such a block with the same file; waits for them.

    The file is created if it does not exist; only its lock is used.
    """
    with path.open("ab") as file:
        take_lock(file, wait=True)
        yield


def take_lock(file: IO[Any], *, wait: bool = False) -> bool:
    """Locks a file for as long as it is open; returns False if another process holds the lock.

    On a file system without locks (see `AppendOnlyFile`) it returns True.

    Args:
        file: the open file.
        wait: wait for the lock instead.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        logger.warning(
            "the file system of %s has no locks (%s): make sure that no other process writes it",
            file.name,
            error,
        )
    return True

"""Files that grow by lines: whole after a kill, and written by one process at a time."""

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from rsalign.core.errors import ConfigError

logger = logging.getLogger(__name__)

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What a file system says that keeps no locks, as some that machines share."""


class AppendOnlyFile:
    """Lines, each of which is on disk, as far as the process is concerned, when it was appended.

    A line that a kill cut short is dropped on opening. One process at a time writes: another that
    opens the file is refused, and so is a second opening in the same process. The lock goes with
    the process, however it ends. Where there are no locks (Windows; some file systems that machines
    share), the caller must see to it; on the latter a warning says so.

    Args:
        path: the file; made if it is not there. Its folder must exist.
        what: it is, for messages: "the journal".
        instead: what one can do while it is in use, for messages.

    Raises:
        ConfigError: if it cannot be opened, or another process writes it.
    """

    def __init__(
        self, path: str | Path, what: str, *, instead: str = "choose another path"
    ) -> None:
        self.path = Path(path)
        self._what = what
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

    def lines(self) -> list[bytes]:
        """The whole lines; one that was cut short is removed from the file."""
        self._file.seek(0)
        *whole, torn = self._file.read().split(b"\n")
        if torn:
            self._file.truncate(sum(len(line) + 1 for line in whole))
        return whole

    def append(self, line: bytes) -> None:
        """Adds a line; it is safe from a kill when this returns.

        Raises:
            OSError: if it could be written in part only; the file is as it was before.
        """
        line += b"\n"
        written = self._file.write(line)
        if written != len(line):  # the next one must not be joined to it
            self._file.truncate(self._file.seek(0, os.SEEK_END) - (written or 0))
            raise OSError(
                errno.ENOSPC, f"only a part of a line could be written to {self._what} {self.path}"
            )

    def close(self) -> None:
        """Closes the file, and gives up the lock. Idempotent."""
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
    """Waits until no other process is in here with the same file, which is made for its lock."""
    with path.open("ab") as file:
        take_lock(file, wait=True)
        yield


def take_lock(file: IO[Any], *, wait: bool = False) -> bool:
    """Takes the lock of an open file, for as long as it is open; False if another has it.

    Without locks (see `AppendOnlyFile`) it counts as taken.

    Args:
        file: to be locked.
        wait: until the other gives it up.
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
            "the file system of %s keeps no locks (%s): see to it that no other process writes it",
            file.name,
            error,
        )
    return True

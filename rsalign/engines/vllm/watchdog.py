"""Kills the processes of an engine when the process that started it dies, by SIGKILL, too.

vLLM does not: the engine of a killed process stays alive with its memory. The watchdog is a small
process that reads from a pipe whose writing end only its parent has. However the parent ends, the
pipe is closed, and the watchdog kills those of the parent's children that are left.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterable

_PROGRAM = """
import os, signal, sys
import psutil
children = [psutil.Process(int(pid)) for pid in sys.argv[1:] if psutil.pid_exists(int(pid))]
for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(stop, signal.SIG_IGN)
if os.read(0, 1):  # dismissed: the host says so before it closes the pipe
    sys.exit()
for child in children:
    try:
        doomed = [child, *child.children(recursive=True)]
    except psutil.NoSuchProcess:
        continue
    for process in doomed:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            pass
"""


class Watchdog:
    """A process that kills given children of this one when this one has ended.

    Args:
        pids: process ids of the children.

    Example:
        >>> Watchdog([]).dismiss()
    """

    def __init__(self, pids: Iterable[int]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *map(str, pids)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def dismiss(self) -> None:
        """Ends the watchdog and leaves the children alone."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it may be gone already
            os.write(self._process.stdin.fileno(), b".")
            self._process.stdin.close()
        self._process.wait(timeout=5)


def child_pids() -> set[int]:
    """Returns the process ids of this process's direct children."""
    import psutil

    return {child.pid for child in psutil.Process().children()}

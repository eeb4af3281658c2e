"""Ends child engines when their parent dies, SIGKILL included.

Nothing in vLLM does: the core of a killed host stays alive with its memory. A small process holds
the reading end of a pipe whose writing end only the host has; when the host is gone, however it
went, the pipe ends and the watchdog kills what is left of the host's children.
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
    """Watches over given children of this process.

    Args:
        pids: process ids of the children that shall not outlive this process.
    """

    def __init__(self, pids: Iterable[int]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *map(str, pids)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def dismiss(self) -> None:
        """Sends the watchdog home; the children are stopped by other means."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it may be gone already
            os.write(self._process.stdin.fileno(), b".")
            self._process.stdin.close()
        self._process.wait(timeout=5)


def children() -> set[int]:
    """Process ids of this process's direct children."""
    import psutil

    return {child.pid for child in psutil.Process().children()}

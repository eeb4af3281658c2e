"""One process that grades, and the messages between it and the process that asks.

Why no library is under it: see `rsalign.rewards.child_processes`.
"""

import contextlib
import math
import multiprocessing
import os
import pickle
import resource
import signal
import threading
from multiprocessing.connection import Connection

from eval.tasks.protocol import Grade, Item, Task, ungradable
from rsalign import ConfigError
from rsalign.core.foreign import describe_error

_PREPARE_SECONDS = 300.0
"""For a process to start and import what a task needs, on a busy machine."""

_GRACE_SECONDS = 10.0
"""After its time limit a process ends itself, should nobody be left to end it."""


class Ended(Exception):  # noqa: N818 - it is a verdict on an answer, told in its message
    """The process ended without giving a grade."""


def pickled(task: Task) -> bytes:
    """Pickles the task for another process.

    Raises:
        ConfigError: if it cannot be pickled.
    """
    try:
        return pickle.dumps(task)
    except Exception as failure:
        raise ConfigError(
            f"the task {task!r} cannot go to another process ({failure}): define its class at the "
            "top of a module, and give it only values that can be pickled"
        ) from failure


class GradingProcess:
    """Starts a grading process and asks it for one grade at a time.

    Args:
        task: pickled.
        memory_bytes: address space that the process may have; None sets no limit.
    """

    def __init__(self, task: bytes, memory_bytes: int | None) -> None:
        # not a fork, which would copy the engine's threads and locks
        context = multiprocessing.get_context("spawn")
        self._connection, far = context.Pipe()
        self._process = context.Process(target=_serve, args=(far, task, memory_bytes), daemon=True)
        self._process.start()
        far.close()  # so that its end is seen here
        self._lock = threading.Lock()
        self._prepared = False

    @property
    def alive(self) -> bool:
        """Whether it can be asked again."""
        return self._process.is_alive() and not self._connection.closed

    def prepare(self) -> None:
        """Waits, the first time, until the process has imported what the task needs.

        Raises:
            ConfigError: if the process died or hung over it.
            InstallError: if a package is missing.
        """
        if self._prepared:
            return
        try:
            refused = self._reply(_PREPARE_SECONDS)
        except Ended as ended:
            raise ConfigError(f"the task could not be prepared in a process: {ended}") from ended
        if isinstance(refused, Exception):
            self.end()
            raise refused
        self._prepared = True

    def ask(self, item: Item, text: str, *, timeout_seconds: float) -> Grade:
        """The grade of `text`.

        Raises:
            Ended: if the process died, or took too long and was ended.
        """
        with contextlib.suppress(OSError):  # a dead process is seen when its reply is read
            self._connection.send((item, text, timeout_seconds))
        reply = self._reply(timeout_seconds)
        if not isinstance(reply, Grade):
            raise Ended(f"the grader returned {reply!r}, which is no Grade")
        return reply

    def end(self) -> int | None:
        """Ends the process, whatever it does; its exit code. Any thread may call it."""
        with self._lock:
            self._process.kill()
            self._process.join()
            return self._process.exitcode

    def _reply(self, timeout_seconds: float) -> object:
        try:
            if self._connection.poll(timeout_seconds):
                reply: object = self._connection.recv()
                return reply
        except (EOFError, OSError) as gone:
            self._connection.close()
            raise Ended(f"the grader's process ended with exit code {self.end()}") from gone
        self.end()
        self._connection.close()
        raise Ended(f"the grader took longer than {timeout_seconds:g} seconds")


def _serve(connection: Connection, task: bytes, memory_bytes: int | None) -> None:
    """Runs in the grading process: sends None or an error, then a grade for each question."""
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks decides when to end
    if memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    grader: Task = pickle.loads(task)
    with contextlib.suppress(EOFError, BrokenPipeError):  # nobody asks any more
        connection.send(_prepare(grader))
        while True:
            connection.send(_grade(grader, *connection.recv()))


def _prepare(task: Task) -> Exception | None:
    try:
        task.prepare()
    except Exception as failure:  # noqa: BLE001 - it is raised where the task was given
        return failure
    return None


def _grade(task: Task, item: Item, text: str, timeout_seconds: float) -> Grade:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(math.ceil(timeout_seconds + _GRACE_SECONDS))
    try:
        return task.grade(item, text)
    except BaseException as failure:  # noqa: BLE001 - a text may break a grader in any way
        return ungradable(f"the grader raised {describe_error(failure)}")
    finally:
        signal.alarm(0)

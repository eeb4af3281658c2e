"""Grading in other processes, with a time limit for each answer.

A text that a model wrote can make a grader run for ever, take all memory or crash. None of that may
end a study, stall its engine, or count as a success.
"""

import hashlib
import queue
import threading
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import Future
from types import TracebackType
from typing import TypeAlias

from eval.tasks.protocol import Grade, Item, Task, ungradable
from eval.tasks.worker import Ended, GradingProcess, pickled
from rsalign import ConfigError
from rsalign.core.checks import above, at_least, check_float, check_int, check_value
from rsalign.rewards.workers import DaemonThreads

Grades: TypeAlias = dict[bytes, Grade]
"""Grades of one task by `grade_key`."""

_grades: defaultdict[tuple[bytes, str], Grades] = defaultdict(dict)


class GradingPool:
    """Processes that grade answers to one task's items; a context manager.

    A grader that raises, dies or takes too long gives an ungradable `Grade` that says so, and its
    process is replaced. The time to start a process and to import what a task needs
    (`Task.prepare`) does not count. Processes are started when they are first needed, afresh: a
    script that makes a pool guards its own work by ``if __name__ == "__main__"``.

    Args:
        task: grades.
        num_workers: how many answers are graded at once.
        timeout_seconds: for one answer; on a slower machine fewer answers are graded in time.
        memory_gib: address space that a process may have, GiB; None sets no limit.
        known: grades that `grade` need not ask for, and adds to (`shared_grades`).

    Raises:
        ConfigError: if a setting is out of range, or the task cannot be pickled.
    """

    def __init__(
        self,
        task: Task,
        *,
        num_workers: int = 2,
        timeout_seconds: float = 30.0,
        memory_gib: float | None = 8.0,
        known: Grades | None = None,
    ) -> None:
        name = type(self).__name__
        num_workers = check_int(name, "num_workers", num_workers, at_least(1))
        timeout_seconds = check_float(name, "timeout_seconds", timeout_seconds, above(0.0))
        memory_gib = check_value(name, "memory_gib", memory_gib, float | None, above(0.0))
        self._task = pickled(task)
        self._known: Grades = {} if known is None else known
        self._timeout_seconds = timeout_seconds
        self._memory_bytes = None if memory_gib is None else int(memory_gib * 2**30)
        self._threads = DaemonThreads(num_workers, name="rsalign-grade")
        # last in, first out: a process that has prepared is taken before another is started
        self._places: queue.LifoQueue[GradingProcess | None] = queue.LifoQueue()
        for _ in range(num_workers):
            self._places.put(None)
        self._lock = threading.Lock()
        self._workers: set[GradingProcess] = set()
        self._closed = False

    def __enter__(self) -> "GradingPool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def submit(self, item: Item, text: str) -> "Future[Grade]":
        """Starts to grade `text`.

        The future has the grade. It raises `InstallError` if a package that the task needs is
        missing, and `ConfigError` if the task cannot be prepared in another process or the pool was
        closed meanwhile.

        Raises:
            ConfigError: if the pool is closed.
        """
        self._require_open()
        return self._threads.submit(self._grade, item, text)

    def grade(self, answers: Iterable[tuple[Item, str]]) -> list[Grade]:
        """Grades of all answers, in their order. Equal answers are graded once, now and later.

        Raises:
            ConfigError: as the future of `submit`.
            InstallError: as the future of `submit`.
        """
        given = [(grade_key(item, text), item, text) for item, text in answers]
        futures = {
            at: self.submit(item, text)
            for at, (item, text) in {at: (item, text) for at, item, text in given}.items()
            if at not in self._known
        }
        self._known.update((at, future.result()) for at, future in futures.items())
        return [self._known[at] for at, _, _ in given]

    def close(self) -> None:
        """Ends all processes at once; answers that are not graded yet have no grade."""
        with self._lock:
            self._closed = True
            workers = [*self._workers]
        for worker in workers:
            worker.end()
        self._threads.close()

    def _require_open(self) -> None:
        if self._closed:
            raise ConfigError("the grading pool is closed: make another one")

    def _grade(self, item: Item, text: str) -> Grade:
        worker = self._places.get()
        try:
            if worker is None or not worker.alive:  # it may have died of something else meanwhile
                worker = self._start()
            worker.prepare()
            return worker.ask(item, text, timeout_seconds=self._timeout_seconds)
        except Ended as ended:
            self._require_open()
            return ungradable(str(ended))
        finally:
            if worker is not None and not worker.alive:
                with self._lock:
                    self._workers.discard(worker)
                worker = None
            self._places.put(worker)

    def _start(self) -> GradingProcess:
        with self._lock:
            self._require_open()
            worker = GradingProcess(self._task, self._memory_bytes)
            self._workers.add(worker)
        return worker


def shared_grades(task: Task, grader: str = "") -> Grades:
    """The grades that this process has of a task's answers, shared by all jobs of equal tasks.

    Strategies that choose among one pool of draws consider the same texts again and again, and a
    grade is a pure function of item and text, so that each is graded once.

    Args:
        task: whose items are answered.
        grader: the name of who grades them; empty: the task itself.

    Raises:
        ConfigError: if the task cannot be pickled.
    """
    return _grades[pickled(task), grader]


def grade_key(item: Item, text: str) -> bytes:
    """Digest of an item's id and a text; texts are long, and there are many."""
    return hashlib.blake2b(repr((item.id, text)).encode(), digest_size=16).digest()

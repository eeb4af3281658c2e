"""Daemon threads for anyone's blocking code.

The standard pool joins its threads when the interpreter ends, so that one call that hangs would
keep the whole process from ending.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Attempt(Generic[T]):
    """What came of a call: a result, or what was raised, whatever it is.

    Some exceptions do not survive a future: `StopIteration` leaves whoever awaits it waiting for
    ever, and `SystemExit` ends the event loop on its way.
    """

    result: T | None = None
    failure: BaseException | None = None

    @classmethod
    def of(cls, function: Callable[..., T], *args: Any) -> "Attempt[T]":
        """Calls a function."""
        try:
            return cls(function(*args))
        except BaseException as failure:  # noqa: BLE001 - it belongs to whoever asked for the call
            return cls(failure=failure)

    def value(self) -> T:
        """The result.

        Raises:
            BaseException: what the function raised.
        """
        if self.failure is not None:
            raise self.failure
        return self.result  # type: ignore[return-value]


class DaemonThreads:
    """Runs calls on up to `num_threads` threads, started when needed.

    A call whose future was cancelled while it ran (a time-out) loses its thread, which ends when
    the call does; another takes its place, so that calls that hang do not use up the pool.
    """

    def __init__(self, num_threads: int, *, name: str) -> None:
        self._num_threads = num_threads
        self._name = name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running = 0
        self._idle = 0

    def submit(self, function: Callable[..., T], *args: Any) -> "Future[T]":
        """Starts a call; cancelling the future drops it, or abandons it if it has begun."""
        future: Future[T] = Future()
        job = _Job(future, function, args)
        future.add_done_callback(lambda done: self._replace(job) if done.cancelled() else None)
        with self._lock:
            if self._idle == 0 and self._running < self._num_threads:
                self._start()
        self._jobs.put(job)
        return future

    def close(self) -> None:
        """Ends the idle threads; busy ones end after their call."""
        with self._lock:
            for _ in range(self._running):
                self._jobs.put(None)

    def _start(self) -> None:
        self._running += 1
        threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def _replace(self, job: "_Job") -> None:
        with self._lock:
            if job.begun and not job.abandoned:
                job.abandoned = True
                self._running -= 1
                self._start()

    def _work(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            job = self._jobs.get()
            with self._lock:
                self._idle -= 1
                if job is None:
                    self._running -= 1
                    return
                job.begun = not job.future.cancelled()
            if job.begun:
                job.run()
            if job.abandoned:
                return


class _Job:
    def __init__(self, future: "Future[Any]", function: Callable[..., Any], args: Any) -> None:
        self.future, self.function, self.args = future, function, args
        self.begun = self.abandoned = False

    def run(self) -> None:
        # the future stays cancellable while the call runs: nobody may wait for a call that hangs
        try:
            result = self.function(*self.args)
        except BaseException as failure:  # noqa: BLE001 - it belongs to the caller
            if not self.future.cancelled():
                self.future.set_exception(failure)
        else:
            if not self.future.cancelled():
                self.future.set_result(result)

"""Daemon threads that run blocking code of users, such as reward functions.

`concurrent.futures.ThreadPoolExecutor` joins its threads when the interpreter exits, so that a
single call that hangs would keep the process alive for ever. pebble's `ThreadPool` does not replace
a thread whose call hangs, so that a few such calls use up the pool.
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
    """The outcome of a call as a value: its result, or any exception it raised.

    Some exceptions must not be set on a future: awaiting a future with `StopIteration` never
    returns, and `SystemExit` ends the event loop.

    Example:
        >>> Attempt.of(int, "42").value()
        42
        >>> Attempt.of(int, "x").failure
        ValueError("invalid literal for int() with base 10: 'x'")
    """

    result: T | None = None
    failure: BaseException | None = None

    @classmethod
    def of(cls, function: Callable[..., T], *args: Any) -> "Attempt[T]":
        """Calls a function and keeps its outcome."""
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
    """Runs calls on up to `num_threads` daemon threads, which are started when needed.

    If the future of a running call is cancelled (after a time-out, say), its thread is abandoned:
    it ends when the call returns, and a new thread replaces it at once. So calls that hang do not
    use up the pool.

    Example:
        >>> threads = DaemonThreads(2, name="example")
        >>> threads.submit(max, 1, 2).result()
        2
        >>> threads.close()
    """

    def __init__(self, num_threads: int, *, name: str) -> None:
        self._num_threads = num_threads
        self._name = name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running = 0
        self._idle = 0

    def submit(self, function: Callable[..., T], *args: Any) -> "Future[T]":
        """Queues a call; cancelling the future removes it, or abandons it if it runs already."""
        future: Future[T] = Future()
        job = _Job(future, function, args)
        future.add_done_callback(lambda done: self._replace(job) if done.cancelled() else None)
        with self._lock:
            if self._idle == 0 and self._running < self._num_threads:
                self._start()
        self._jobs.put(job)
        return future

    def close(self) -> None:
        """Ends the idle threads; each busy thread ends after its call."""
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
        # the future is not set to "running", so that a call that hangs can still be cancelled
        try:
            result = self.function(*self.args)
        except BaseException as failure:  # noqa: BLE001 - it belongs to the caller
            if not self.future.cancelled():
                self.future.set_exception(failure)
        else:
            if not self.future.cancelled():
                self.future.set_result(result)

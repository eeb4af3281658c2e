"""Runs a function in child processes; a process that dies or hangs fails only its own call.

Libraries do not give this. `concurrent.futures.ProcessPoolExecutor` fails all calls, now and later,
when one process dies. pebble 5.2.3 has time limits and survives a process that dies during a call,
but its pool fails for ever when an idle process is killed or an exception cannot be unpickled in
the parent, a child that hangs outlives a parent that is killed, and all processes start at once.
"""

import atexit
import multiprocessing
import os
import pickle
import queue
import signal
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing.connection import Connection, wait
from typing import Any, SupportsFloat

from rsalign.core.checks import quote
from rsalign.rewards.workers import Attempt, DaemonThreads

_START_SECONDS = 300.0
"""For a process to start and to import what the function needs, on a busy machine."""


class ChildProcesses:
    """Calls a function that returns a number, in up to `num_processes` child processes.

    Processes are started when first needed, by the "spawn" method (a fork would copy the threads
    and locks of an engine). A process that died, or was killed because its call took too long, is
    replaced by a new one.

    Args:
        function: the function; it must be picklable.
        num_processes: greatest number of concurrent calls.
        timeout_seconds: time limit of one call, counted from its begin; None is no limit.
    """

    def __init__(
        self, function: Callable[..., Any], num_processes: int, *, timeout_seconds: float | None
    ) -> None:
        self._function = pickle.dumps(function)
        self._timeout_seconds = timeout_seconds
        self._threads = DaemonThreads(num_processes, name="rsalign-reward-process")
        self._places: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(num_processes):
            self._places.put(None)
        self._lock = threading.Lock()
        self._children: set[_Child] = set()
        self._closed = False
        atexit.register(self.close)  # before multiprocessing's own, which waits for children

    def submit(self, on_begin: Callable[[], object], *args: Any) -> "Future[Attempt[Any]]":
        """Queues a call.

        Args:
            on_begin: called, on a pool thread, just before the arguments are sent to a process.
            args: arguments of the function; they must be picklable.
        """
        return self._threads.submit(self._call, on_begin, args)

    def close(self) -> None:
        """Kills all processes at once, whatever they are doing. Idempotent."""
        with self._lock:
            self._closed = True
            children = [*self._children]
        for child in children:
            child.end()
        self._threads.close()
        atexit.unregister(self.close)

    def _call(self, on_begin: Callable[[], object], args: tuple[Any, ...]) -> "Attempt[Any]":
        child = self._places.get()
        try:
            if child is None or not child.alive:
                child = self._start()
            return child.ask(on_begin, args, self._timeout_seconds)
        except Exception as failure:  # noqa: BLE001 - it belongs to whoever asked
            return Attempt(failure=failure)
        finally:
            if child is not None and not child.alive:
                with self._lock:
                    self._children.discard(child)
                child = None
            self._places.put(child)

    def _start(self) -> "_Child":
        with self._lock:
            if self._closed:
                raise RuntimeError("it was closed")
            child = _Child(self._function)
            self._children.add(child)
        return child


class _Child:
    """One child process, which runs one call at a time."""

    def __init__(self, function: bytes) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, far = context.Pipe()
        self._process = context.Process(target=_serve, args=(far, function))
        self._process.start()
        far.close()  # so that its end is seen here
        self._lock = threading.Lock()
        self._started = False

    @property
    def alive(self) -> bool:
        """Whether it can run another call."""
        return self._process.is_alive() and not self._connection.closed

    def ask(
        self,
        on_begin: Callable[[], object],
        args: tuple[Any, ...],
        timeout_seconds: float | None,
    ) -> "Attempt[Any]":
        """Runs one call and returns its outcome.

        Raises:
            RuntimeError: if the process died.
            CallTimeoutError: if the call took too long; the process was then killed.
        """
        if not self._started:
            loaded = self._reply(_START_SECONDS)
            if loaded.failure is not None:
                self.end()
                return loaded
            self._started = True
        on_begin()
        self._connection.send(args)
        return self._reply(timeout_seconds)

    def end(self) -> int | None:
        """Kills the process, whatever it is doing; returns its exit code."""
        with self._lock:
            self._process.kill()
            self._process.join()
            return self._process.exitcode

    def _reply(self, timeout_seconds: float | None) -> "Attempt[Any]":
        try:
            if self._connection.poll(timeout_seconds):
                reply: Attempt[Any] = self._connection.recv()
                return reply
        except (EOFError, OSError):
            self._process.join(
                timeout=1
            )  # let it end by itself: its own exit code is more informative
            self._connection.close()
            raise RuntimeError(f"its process ended with exit code {self.end()}") from None
        self.end()
        self._connection.close()
        raise CallTimeoutError


class CallTimeoutError(Exception):
    """A call took too long; its process was killed."""


class RaisedElsewhereError(Exception):
    """Stands for an exception raised in a child process, which may not be picklable itself.

    Args:
        shown: the exception's repr.
        stack: its formatted traceback.
    """

    def __init__(self, shown: str, stack: str) -> None:
        super().__init__(shown, stack)

    def __repr__(self) -> str:
        return str(self.args[0])

    def __str__(self) -> str:
        return "\n".join(self.args)


class _NoNumber:
    """Stands for a returned value that is not a number and may not be picklable; shows its repr."""

    def __init__(self, shown: str) -> None:
        self._shown = shown

    def __repr__(self) -> str:
        return self._shown


def _serve(connection: Connection, pickled: bytes) -> None:
    """The child's loop: sends whether the function could be loaded, then one outcome per call."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the parent
    threading.Thread(target=_end_with_parent, daemon=True).start()
    loaded = Attempt.of(pickle.loads, pickled)
    connection.send(Attempt(failure=_able_to_travel(loaded.failure)))
    try:
        while True:
            attempt = Attempt.of(loaded.value(), *connection.recv())
            connection.send(_answer(attempt))
    except (EOFError, BrokenPipeError):
        return  # the parent has closed the connection


def _answer(attempt: "Attempt[Any]") -> "Attempt[Any]":
    """The outcome of a call, made of picklable values only."""
    if attempt.failure is None:
        value = attempt.value()
        if not isinstance(value, SupportsFloat):
            return Attempt(_NoNumber(quote(value)))
        attempt = Attempt.of(float, value)
    return Attempt(attempt.result, _able_to_travel(attempt.failure))


def _able_to_travel(failure: BaseException | None) -> BaseException | None:
    if failure is None:
        return None
    stack = "".join(traceback.format_exception(failure))
    return RaisedElsewhereError(quote(failure, longest=320), stack)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)

"""The one thread that steps all vLLM engines of this process, in turn.

vLLM's forward context and CPU scratch memory are global to the process: two engines that step at
once crash it.
"""

import atexit
import contextlib
import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

_PATIENCE = 4
"""A reward engine waits for at most so many steps, and only while more than so many generating
requests are open for each of its own."""


class SteppedEngine(Protocol):
    """What the thread needs of an engine.

    Attributes:
        scores: whether it is a reward engine.
        num_skipped: steps that it has waited for since its last one.
    """

    scores: bool
    num_skipped: int

    @property
    def num_open(self) -> int:
        """The number of its open requests."""
        ...

    @property
    def busy(self) -> bool:
        """Whether a step would do anything."""
        ...

    def step(self) -> None:
        """Does one step."""
        ...

    def shut_down(self) -> None:
        """Fails what is open and ends the engine."""
        ...

    def close(self) -> None:
        """Removes the engine from the thread."""
        ...


class Stepper:
    """The thread that builds, steps and closes the engines of this process."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._engines: list[SteppedEngine] = []
        self._adopted: weakref.WeakSet[Any] = weakref.WeakSet()
        self._thread: threading.Thread | None = None
        self._start_lock = threading.Lock()

    def submit(self, job: Callable[[], None]) -> None:
        """Runs `job` on the thread, between two steps."""
        with self._start_lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="rsalign-engines", daemon=True
                )
                self._thread.start()
                atexit.register(self._close_all)
        self._jobs.put(job)

    def call(self, job: Callable[[], T]) -> T:
        """Runs `job` on the thread and returns its result."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(job())
            except BaseException as failure:  # noqa: BLE001 - it belongs to the caller
                done.set_exception(failure)

        self.submit(run)
        return done.result()

    def add(self, engine: SteppedEngine) -> None:
        """Steps an engine from now on."""
        self.call(lambda: self._engines.append(engine))

    def remove(self, engine: SteppedEngine) -> None:
        """Shuts an engine down, and does not step it any more."""

        def leave() -> None:
            self._engines.remove(engine)
            engine.shut_down()

        self.call(leave)

    def keep_shared_state(self, adopted: Any = None) -> None:
        """Lets vLLM destroy what the engines of a process share only after the last of them.

        Otherwise shutting down any in-process engine, also a `vllm.LLM` of the caller's that is
        garbage-collected, destroys the process groups that all the others step with.

        Args:
            adopted: vLLM's engine of a caller, which runs on after we have left it.
        """
        from vllm.v1.engine import core

        if adopted is not None:
            self._adopted.add(adopted)
        tear_down = core.cleanup_dist_env_and_memory
        if getattr(tear_down, "waits_for_rsalign", False):
            return

        def tear_down_after_the_last() -> None:
            if not self._engines and not self._adopted:
                tear_down()

        tear_down_after_the_last.waits_for_rsalign = True  # type: ignore[attr-defined]
        core.cleanup_dist_env_and_memory = tear_down_after_the_last

    def _run(self) -> None:
        while True:
            try:
                job = self._jobs.get(block=not any(engine.busy for engine in self._engines))
                while True:
                    job()
                    job = self._jobs.get_nowait()
            except queue.Empty:
                pass
            # asked only now: a job may have closed one
            for engine in _choose_due([engine for engine in self._engines if engine.busy]):
                engine.step()

    def _close_all(self) -> None:
        for engine in list(self._engines):
            engine.close()


def _choose_due(busy: list[SteppedEngine]) -> list[SteppedEngine]:
    """Chooses the engines that do a step now; reward engines wait to fill a batch.

    A step costs nearly the same for one response as for many, and responses become ready one by
    one: scored at once, each would cost the generating engine a step of its own.
    """
    num_generating = sum(engine.num_open for engine in busy if not engine.scores)
    due = []
    for engine in busy:
        if (
            engine.scores
            and engine.num_open * _PATIENCE < num_generating
            and engine.num_skipped < _PATIENCE
        ):
            engine.num_skipped += 1
        else:
            engine.num_skipped = 0
            due.append(engine)
    return due


STEPPER = Stepper()
"""The only one of this process."""


@contextlib.contextmanager
def stepping_paused() -> Iterator[None]:
    """Steps no engine for the length of a block, in which the caller may step one of its own."""
    paused, resume = threading.Event(), threading.Event()

    def wait() -> None:
        paused.set()
        resume.wait()

    STEPPER.submit(wait)
    paused.wait()
    try:
        yield
    finally:
        resume.set()

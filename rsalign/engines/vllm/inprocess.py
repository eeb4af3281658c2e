"""vLLM's `LLMEngine` in this process, stepped by one thread.

It starts in about two seconds instead of ten and is as fast on CPU. All in-process engines share
one thread and are stepped in turn: vLLM's forward context and CPU scratch memory are global to the
process, so that two engines stepping at once crash it.
"""

import asyncio
import atexit
import contextlib
import itertools
import logging
import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from rsalign.core.errors import EngineError
from rsalign.core.types import Tokens
from rsalign.engines.loop_thread import call_on
from rsalign.engines.options import NO_OPTIONS, RequestOptions
from rsalign.engines.reports import Report, read_report
from rsalign.engines.vllm.base import EngineBase
from rsalign.engines.vllm.building import Prepare, build_llm_engine, leave_config
from rsalign.engines.vllm.environment import import_vllm
from rsalign.engines.vllm.errors import convert_start_errors, request_error
from rsalign.engines.vllm.waiter import Waiter, deliver

if TYPE_CHECKING:
    from vllm import PoolingParams, PoolingRequestOutput, RequestOutput, SamplingParams
    from vllm.v1.engine.llm_engine import LLMEngine

logger = logging.getLogger(__name__)
T = TypeVar("T")


class InProcessEngine(EngineBase):
    """One `LLMEngine`; awaitable from any event loop.

    Attributes:
        owns: whether `close` shuts the engine down.
        scores: whether it judges responses and draws none.
        num_passed_over: steps since it had work and no turn.
    """

    def __init__(self, engine: "LLMEngine", *, owns: bool) -> None:
        self.owns = owns
        self._engine = engine
        self._waiting: dict[str, Waiter] = {}
        self._failure: BaseException | None = None
        self._closed = False
        self.scores = engine.vllm_config.model_config.runner_type == "pooling"
        self.num_passed_over = 0
        _keep_shared_state()
        if not owns:
            _ADOPTED.add(engine)
        _STEPPER.add(self)

    @classmethod
    def start(
        cls,
        model: str,
        *,
        pooling: bool = False,
        prepare: Prepare = leave_config,
        **engine_args: Any,
    ) -> "InProcessEngine":
        """Builds an engine; arguments and errors as in `rsalign.engines.vllm.starting`."""
        import_vllm()
        with convert_start_errors(model):
            engine = _STEPPER.call(
                lambda: build_llm_engine(model, engine_args, pooling=pooling, prepare=prepare)
            )
        return cls(engine, owns=True)

    @property
    def num_open(self) -> int:
        """How many of our requests are open."""
        return len(self._waiting)

    async def generate(
        self, tokens: Tokens, params: "SamplingParams", options: RequestOptions = NO_OPTIONS
    ) -> "RequestOutput":
        """Sends one request in vLLM's own terms; see `EngineBase`."""
        options.refuse_beside_process()
        output: RequestOutput = await self._request(tokens, params, options)
        return output

    async def encode(self, tokens: Tokens, params: "PoolingParams") -> "PoolingRequestOutput[Any]":
        """Sends one request to a pooling engine; see `EngineBase`."""
        output: PoolingRequestOutput[Any] = await self._request(tokens, params, NO_OPTIONS)
        return output

    @property
    def can_report(self) -> bool:
        """Whether the model's worker is in this process, too, so that reports can be read here."""
        from vllm.v1.engine.core_client import InprocClient
        from vllm.v1.executor.uniproc_executor import UniProcExecutor

        client = self._engine.engine_core
        return isinstance(client, InprocClient) and isinstance(
            client.engine_core.model_executor, UniProcExecutor
        )

    async def read_report(self, ticket: str, num_drawn: int) -> Report | None:
        """Returns what hooks measured of a request; see `Engine`."""
        return read_report(ticket, num_drawn)

    def close(self) -> None:
        """Fails what is open, and shuts the engine down if it is ours."""
        if self._closed:
            return
        self._closed = True
        _STEPPER.remove(self)

    async def _request(self, tokens: Tokens, params: Any, options: RequestOptions) -> Any:
        self._check_alive()
        waiter = Waiter(asyncio.get_running_loop())
        _STEPPER.submit(lambda: self._add(waiter, tokens, params, options))
        try:
            return await waiter.future
        except asyncio.CancelledError as cancelled:
            cancelled.drawn = waiter.drawn()  # type: ignore[attr-defined]
            _STEPPER.submit(lambda: self._abort(waiter))
            raise

    def _check_alive(self) -> None:
        if self._closed:
            raise EngineError(
                f"the engine of {self._engine.model_config.model} was closed: start another"
            )
        if self._failure is not None:
            raise EngineError(
                f"the engine of {self._engine.model_config.model} died ({self._failure!r}) and "
                "will not recover: close it and start another"
            ) from self._failure

    # what follows runs on the stepper's thread

    @property
    def busy(self) -> bool:
        """Whether a step would do anything for us."""
        return bool(self._waiting) and self._failure is None

    def step(self) -> None:
        """One step of the engine; hands finished outputs to those who wait for them."""
        try:
            outputs = self._engine.step()
        except BaseException as failure:  # noqa: BLE001 - it belongs to the waiters, not to the thread
            self._fail(failure)
            return
        finished: dict[asyncio.AbstractEventLoop, list[tuple[Waiter, Any]]] = {}
        for output in outputs:
            if output.finished and (waiter := self._waiting.pop(output.request_id, None)):
                finished.setdefault(waiter.loop, []).append((waiter, output))
        for loop, results in finished.items():
            call_on(loop, deliver, results)

    def shut_down(self) -> None:
        """The end: no waiter is left behind, and no request in an engine that runs on."""
        requests = [waiter.internal for waiter in self._waiting.values()]
        self._fail(EngineError("the engine was closed while this request was open"))
        if self.owns:
            self._engine.engine_core.shutdown()
        elif requests:
            self._engine.abort_request(requests, internal=True)

    def _add(self, waiter: Waiter, tokens: Tokens, params: Any, options: RequestOptions) -> None:
        if waiter.gone:
            return
        if self._failure is not None:
            call_on(waiter.loop, waiter.fail, self._failure)
            return
        external = f"rsalign-{next(_REQUEST_IDS)}"
        try:
            internal = self._engine.add_request(
                external, options.prompt(tokens), params, **options.arguments()
            )
        except BaseException as failure:  # noqa: BLE001 - this thread serves all engines and must live
            self._not_added(waiter, external, failure)
            return
        waiter.external, waiter.internal = external, internal
        waiter.state = self._engine.output_processor.request_states.get(internal)
        self._waiting[external] = waiter

    def _not_added(self, waiter: Waiter, external: str, failure: BaseException) -> None:
        """A request that was not taken has failed by itself, unless the engine is dead."""
        from vllm.v1.engine.exceptions import EngineDeadError

        if isinstance(failure, EngineDeadError):
            self._fail(failure)
            call_on(waiter.loop, waiter.fail, failure)
            return
        self._drop(external, internal=False)  # of what it may have left behind
        error = request_error(failure)
        error.__cause__ = failure
        call_on(waiter.loop, waiter.fail, error)

    def _abort(self, waiter: Waiter) -> None:
        waiter.gone = True
        if self._waiting.pop(waiter.external, None):
            self._drop(waiter.internal, internal=True)

    def _drop(self, request: str, *, internal: bool) -> None:
        try:
            self._engine.abort_request([request], internal=internal)
        except BaseException as failure:  # noqa: BLE001 - this thread serves all engines and must live
            self._fail(failure)

    def _fail(self, failure: BaseException) -> None:
        self._failure = failure
        waiters, self._waiting = list(self._waiting.values()), {}
        for waiter in waiters:
            call_on(waiter.loop, waiter.fail, failure)


class _Stepper:
    """The one thread that touches in-process engines: builds, steps and closes them."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._engines: list[InProcessEngine] = []
        self._thread: threading.Thread | None = None
        self._start_lock = threading.Lock()

    def submit(self, job: Callable[[], None]) -> None:
        """Runs `job` on the thread, between two steps."""
        with self._start_lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="rsalign-engines", daemon=True
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

    def add(self, engine: InProcessEngine) -> None:
        self.call(lambda: self._engines.append(engine))

    def remove(self, engine: InProcessEngine) -> None:
        def leave() -> None:
            self._engines.remove(engine)
            engine.shut_down()

        self.call(leave)

    @property
    def is_idle(self) -> bool:
        """Whether no engine is left."""
        return not self._engines

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(block=not any(engine.busy for engine in self._engines))
                while True:
                    job()
                    job = self._jobs.get_nowait()
            except queue.Empty:
                pass
            # looked at now: a job may have closed one
            for engine in _due([engine for engine in self._engines if engine.busy]):
                engine.step()

    def _close_all(self) -> None:
        for engine in list(self._engines):
            engine.close()


def _due(busy: "list[InProcessEngine]") -> "list[InProcessEngine]":
    """Whose turn it is. Engines that score wait until their batch is worth a step.

    A step costs nearly the same for one response as for many, and responses become ready one by
    one: scored at once, each would cost the engine that draws a step of its own.
    """
    drawing = sum(engine.num_open for engine in busy if not engine.scores)
    due = []
    for engine in busy:
        if (
            engine.scores
            and engine.num_open * _PATIENCE < drawing
            and engine.num_passed_over < _PATIENCE
        ):
            engine.num_passed_over += 1
        else:
            engine.num_passed_over = 0
            due.append(engine)
    return due


_STEPPER = _Stepper()
_REQUEST_IDS = itertools.count()
_PATIENCE = 4
"""Steps that an engine that scores is passed over at most, and only while more than so many
requests are being drawn for each that waits to be scored."""
_ADOPTED: "weakref.WeakSet[LLMEngine]" = weakref.WeakSet()
"""Engines of callers, which run on when we have left them."""


@contextlib.contextmanager
def stepping_paused() -> Iterator[None]:
    """While this is open no engine is stepped here, so that the caller may step one of its own."""
    paused, resume = threading.Event(), threading.Event()

    def wait() -> None:
        paused.set()
        resume.wait()

    _STEPPER.submit(wait)
    paused.wait()
    try:
        yield
    finally:
        resume.set()


def _keep_shared_state() -> None:
    """Lets vLLM tear down what engines of one process share only when no engine we know is left.

    Shutting down any in-process engine, a garbage-collected `vllm.LLM` of the caller's included,
    otherwise destroys the process groups that all the others step with.
    """
    from vllm.v1.engine import core

    tear_down = core.cleanup_dist_env_and_memory
    if getattr(tear_down, "waits_for_rsalign", False):
        return

    def tear_down_after_the_last() -> None:
        if _STEPPER.is_idle and not _ADOPTED:
            tear_down()

    tear_down_after_the_last.waits_for_rsalign = True  # type: ignore[attr-defined]
    core.cleanup_dist_env_and_memory = tear_down_after_the_last

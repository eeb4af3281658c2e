"""vLLM's `LLMEngine` in this process: it starts in 2 s instead of 10, and is as fast on CPU.

All engines of the process are stepped by one thread (`rsalign.engines.vllm.stepper`).
"""

import asyncio
import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

from rsalign.core.cancelled_draws import report_cancelled_draw
from rsalign.core.errors import EngineError, RsalignError
from rsalign.core.types import Tokens
from rsalign.engines.loop_thread import call_on
from rsalign.engines.options import NO_OPTIONS, RequestOptions
from rsalign.engines.reports import Report, read_report
from rsalign.engines.vllm.adopted import check_adopted
from rsalign.engines.vllm.base import EngineBase
from rsalign.engines.vllm.building import Prepare, build_llm_engine, leave_config
from rsalign.engines.vllm.costs import tell_prefix_cost
from rsalign.engines.vllm.cpu_speculation import mend_sampling
from rsalign.engines.vllm.environment import import_vllm
from rsalign.engines.vllm.errors import request_error
from rsalign.engines.vllm.runner_limits import check_runner_limits
from rsalign.engines.vllm.start_errors import convert_adapter_errors, convert_start_errors
from rsalign.engines.vllm.stepper import STEPPER

if TYPE_CHECKING:
    from vllm import PoolingParams, PoolingRequestOutput, RequestOutput, SamplingParams
    from vllm.lora.request import LoRARequest
    from vllm.v1.engine.llm_engine import LLMEngine

_REQUEST_IDS = itertools.count()


class OpenRequest:
    """A request that is open in an engine of this process, and the future of its output.

    Args:
        loop: of the coroutine that awaits the output.

    Attributes:
        loop: as given.
        future: gets the output, or the error.
        external: the id that vLLM reports the request by; empty until vLLM has it.
        internal: vLLM's own id.
        state: vLLM's record of the request.
        gone: whether it was cancelled.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.external = self.internal = ""
        self.state: Any = None
        self.gone = False

    def drawn_tokens(self) -> Tokens:
        """Returns the tokens drawn so far, from vLLM's record of the request."""
        detokenizer = getattr(self.state, "detokenizer", None)
        return tuple(detokenizer.output_token_ids) if detokenizer is not None else ()

    def fail(self, failure: BaseException) -> None:
        """Sets the error; a failure that is no error of rsalign means that the engine died."""
        if self.future.done():
            return
        if not isinstance(failure, RsalignError):
            died = EngineError(
                f"the engine died while this request was open ({failure!r}): close it and start "
                "another"
            )
            died.__cause__ = failure
            failure = died
        self.future.set_exception(failure)


def _deliver(results: list[tuple[OpenRequest, Any]]) -> None:
    """Sets the outputs of requests, on the loop that awaits them."""
    for request, output in results:
        if not request.future.done():
            request.future.set_result(output)


class InProcessEngine(EngineBase):
    """One `LLMEngine`, which may be awaited from any event loop.

    Args:
        engine: vLLM's.
        owns: whether `close` shuts the engine down; False for an engine of the caller's.

    Attributes:
        owns: as given.
        vllm_engine: vLLM's object.
        scores: whether it is a reward engine.
        num_skipped: steps that the thread has let it wait for (`rsalign.engines.vllm.stepper`).
    """

    vllm_engine: "LLMEngine"

    def __init__(self, engine: "LLMEngine", *, owns: bool) -> None:
        if not owns:
            check_adopted(engine.vllm_config)
        self.owns = owns
        self.vllm_engine = engine
        self._open: dict[str, OpenRequest] = {}
        self._failure: BaseException | None = None
        self._closed = False
        self._tasks: tuple[str, ...] | None = None
        self.scores = engine.vllm_config.model_config.runner_type == "pooling"
        self.num_skipped = 0
        mend_sampling(engine.vllm_config, in_process=self.can_report)
        STEPPER.keep_shared_state(adopted=None if owns else engine)
        STEPPER.add(self)
        tell_prefix_cost(engine.vllm_config)

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
        with convert_start_errors(model, engine_args):
            engine = STEPPER.call(
                lambda: build_llm_engine(model, engine_args, pooling=pooling, prepare=prepare)
            )
        return cls(engine, owns=True)

    @property
    def num_open(self) -> int:
        """The number of our requests that are open."""
        return len(self._open)

    async def generate(
        self, tokens: Tokens, params: "SamplingParams", options: RequestOptions = NO_OPTIONS
    ) -> "RequestOutput":
        """Sends one request in vLLM's own terms; see `EngineBase`."""
        options.check_in_process()
        check_runner_limits(params, self.vllm_config)
        output: RequestOutput = await self._request(tokens, params, options)
        return output

    async def supported_tasks(self) -> tuple[str, ...]:
        """Returns what the model can be asked for; see `EngineBase`."""
        self._check_alive()
        if self._tasks is None:
            call = partial(STEPPER.call, self.vllm_engine.get_supported_tasks)
            self._tasks = tuple(await asyncio.to_thread(call))
        return self._tasks

    def load_adapter(self, request: "LoRARequest") -> None:
        """Loads a LoRA adapter; see `VllmEngine`."""
        with convert_adapter_errors(request.lora_path):
            STEPPER.call(lambda: self.vllm_engine.add_lora(request))

    async def encode(self, tokens: Tokens, params: "PoolingParams") -> "PoolingRequestOutput[Any]":
        """Sends one request to a pooling engine; see `EngineBase`."""
        output: PoolingRequestOutput[Any] = await self._request(tokens, params, NO_OPTIONS)
        return output

    @property
    def can_report(self) -> bool:
        """Whether the model's worker is in this process, too, so that reports can be read here."""
        from vllm.v1.engine.core_client import InprocClient
        from vllm.v1.executor.uniproc_executor import UniProcExecutor

        client = self.vllm_engine.engine_core
        return isinstance(client, InprocClient) and isinstance(
            client.engine_core.model_executor, UniProcExecutor
        )

    async def read_report(self, ticket: str, num_drawn: int) -> Report | None:
        """Returns what hooks measured of a request; see `Engine`."""
        return read_report(ticket, num_drawn)

    def close(self) -> None:
        """Fails what is open, and shuts the engine down if rsalign started it."""
        if self._closed:
            return
        self._closed = True
        STEPPER.remove(self)

    async def _request(self, tokens: Tokens, params: Any, options: RequestOptions) -> Any:
        self._check_alive()
        request = OpenRequest(asyncio.get_running_loop())
        STEPPER.submit(lambda: self._add(request, tokens, params, options))
        try:
            return await request.future
        except asyncio.CancelledError:
            report_cancelled_draw(tokens, request.drawn_tokens())
            STEPPER.submit(lambda: self._abort(request))
            raise

    def _check_alive(self) -> None:
        if self._closed:
            raise EngineError(
                f"the engine of {self.vllm_engine.model_config.model} was closed: start another"
            )
        if self._failure is not None:
            raise EngineError(
                f"the engine of {self.vllm_engine.model_config.model} died ({self._failure!r}) and "
                "will not recover: close it and start another"
            ) from self._failure

    # everything below runs on the stepper's thread

    @property
    def busy(self) -> bool:
        """Whether a step would do anything for our requests."""
        return bool(self._open) and self._failure is None

    def step(self) -> None:
        """Does one step of the engine and delivers the outputs of requests that it completed."""
        try:
            outputs = self.vllm_engine.step()
        except BaseException as failure:  # noqa: BLE001 - it belongs to the requests, not to the thread
            self._fail(failure)
            return
        finished: dict[asyncio.AbstractEventLoop, list[tuple[OpenRequest, Any]]] = {}
        for output in outputs:
            if output.finished and (request := self._open.pop(output.request_id, None)):
                finished.setdefault(request.loop, []).append((request, output))
        for loop, results in finished.items():
            call_on(loop, _deliver, results)

    def shut_down(self) -> None:
        """Fails the open requests, and removes them from an engine that runs on."""
        requests = [request.internal for request in self._open.values()]
        self._fail(EngineError("the engine was closed while this request was open"))
        if self.owns:
            self.vllm_engine.engine_core.shutdown()
        elif requests:
            self.vllm_engine.abort_request(requests, internal=True)

    def _add(
        self, request: OpenRequest, tokens: Tokens, params: Any, options: RequestOptions
    ) -> None:
        if request.gone:
            return
        if self._failure is not None:
            call_on(request.loop, request.fail, self._failure)
            return
        external = f"rsalign-{next(_REQUEST_IDS)}"
        try:
            internal = self.vllm_engine.add_request(
                external, options.vllm_prompt(tokens), params, **options.vllm_arguments()
            )
        except BaseException as failure:  # noqa: BLE001 - this thread serves all engines and must live
            self._not_added(request, external, failure)
            return
        request.external, request.internal = external, internal
        request.state = self.vllm_engine.output_processor.request_states.get(internal)
        self._open[external] = request

    def _not_added(self, request: OpenRequest, external: str, failure: BaseException) -> None:
        """Fails a request that vLLM did not accept; the others go on unless the engine is dead."""
        from vllm.v1.engine.exceptions import EngineDeadError

        if isinstance(failure, EngineDeadError):
            self._fail(failure)
            call_on(request.loop, request.fail, failure)
            return
        self._drop(external, internal=False)  # vLLM may have kept parts of it
        error = request_error(failure)
        error.__cause__ = failure
        call_on(request.loop, request.fail, error)

    def _abort(self, request: OpenRequest) -> None:
        request.gone = True
        if self._open.pop(request.external, None):
            self._drop(request.internal, internal=True)

    def _drop(self, request_id: str, *, internal: bool) -> None:
        try:
            self.vllm_engine.abort_request([request_id], internal=internal)
        except BaseException as failure:  # noqa: BLE001 - this thread serves all engines and must live
            self._fail(failure)

    def _fail(self, failure: BaseException) -> None:
        self._failure = failure
        requests, self._open = list(self._open.values()), {}
        for request in requests:
            call_on(request.loop, request.fail, failure)

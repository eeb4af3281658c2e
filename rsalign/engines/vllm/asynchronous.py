"""vLLM's `AsyncLLM`, which computes in a process of its own: for GPUs, servers, large models."""

import asyncio
import atexit
import contextlib
import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from rsalign.core.cancelled_draws import report_cancelled_draw
from rsalign.core.errors import ConfigError, EngineError, RsalignError
from rsalign.core.types import Tokens
from rsalign.engines.loop_thread import LoopThread
from rsalign.engines.options import NO_OPTIONS, RequestOptions
from rsalign.engines.protocol import DrawRequest, DrawResult
from rsalign.engines.reports import Report
from rsalign.engines.vllm.adopted import check_adopted
from rsalign.engines.vllm.base import EngineBase
from rsalign.engines.vllm.building import Prepare, build_async_llm, has_reporter, leave_config
from rsalign.engines.vllm.costs import tell_prefix_cost
from rsalign.engines.vllm.cpu_speculation import mend_sampling
from rsalign.engines.vllm.environment import import_vllm
from rsalign.engines.vllm.errors import request_error
from rsalign.engines.vllm.requests import draw_result, drawn_tokens, sampling_params
from rsalign.engines.vllm.runner_limits import check_runner_limits
from rsalign.engines.vllm.start_errors import convert_adapter_errors, convert_start_errors
from rsalign.engines.vllm.watchdog import Watchdog, child_pids

if TYPE_CHECKING:
    from vllm import PoolingParams, PoolingRequestOutput, RequestOutput, SamplingParams
    from vllm.lora.request import LoRARequest
    from vllm.v1.engine.async_llm import AsyncLLM

_REQUEST_IDS = itertools.count()


class AsyncEngine(EngineBase):
    """One `AsyncLLM`.

    An engine that rsalign started has a thread and an event loop of its own, and may be awaited
    from any loop. An engine of the caller's must be awaited on the loop that it was started on.

    Args:
        engine: vLLM's.
        loop: of an engine that rsalign started; None for an engine of the caller's.
        watchdog: over the engine's processes, if rsalign started them.

    Attributes:
        owns: whether `close` shuts the engine down.
        vllm_engine: vLLM's object.
    """

    vllm_engine: "AsyncLLM"

    def __init__(
        self,
        engine: "AsyncLLM",
        *,
        loop: LoopThread | None = None,
        watchdog: Watchdog | None = None,
    ) -> None:
        if loop is None:  # of one that rsalign starts, the configuration is checked
            check_adopted(engine.vllm_config)
            mend_sampling(engine.vllm_config, in_process=False)
        self.owns = loop is not None
        self.vllm_engine = engine
        self.loop = loop
        self._watchdog = watchdog
        self._closed = False
        self._num_open = 0
        self._tasks: tuple[str, ...] | None = None
        atexit.register(self.close)
        tell_prefix_cost(engine.vllm_config)

    @classmethod
    def start(
        cls,
        model: str,
        *,
        pooling: bool = False,
        prepare: Prepare = leave_config,
        **engine_args: Any,
    ) -> "AsyncEngine":
        """Builds an engine; arguments and errors as in `rsalign.engines.vllm.starting`."""
        import_vllm()
        before = child_pids()
        loop = LoopThread("rsalign-async-engine")
        try:
            with convert_start_errors(model, engine_args):
                engine = loop.call(
                    build_async_llm(model, engine_args, pooling=pooling, prepare=prepare)
                )
        except BaseException:
            loop.stop()
            raise
        return cls(engine, loop=loop, watchdog=Watchdog(child_pids() - before))

    @property
    def num_open(self) -> int:
        """The number of our requests that are open."""
        return self._num_open

    async def draw(
        self, request: DrawRequest, *, on_tokens: Callable[[Tokens], None] | None = None
    ) -> DrawResult:
        """Draws one completion; see `Engine`.

        Args:
            request: what to draw.
            on_tokens: called with all tokens so far whenever more are drawn, on the engine's loop.
        """
        if on_tokens is None:
            return await super().draw(request)

        def report_tokens(output: "RequestOutput") -> None:
            on_tokens(drawn_tokens(output))

        params = sampling_params(request, cumulative=True)
        output = await self.generate(
            request.prompt, params, request.options, on_output=report_tokens
        )
        return draw_result(output, request)

    async def generate(
        self,
        tokens: Tokens,
        params: "SamplingParams",
        options: RequestOptions = NO_OPTIONS,
        *,
        on_output: "Callable[[RequestOutput], None] | None" = None,
    ) -> "RequestOutput":
        """Sends one request in vLLM's own terms; see `EngineBase`.

        Args:
            tokens: the prompt.
            params: vLLM's.
            options: what else goes with the request.
            on_output: called with each output, on the engine's loop; there are several if the
                `output_kind` of `params` says so.
        """
        check_runner_limits(params, self.vllm_config)
        start = partial(self.vllm_engine.generate, **options.vllm_arguments())
        prompt = options.vllm_prompt(tokens)
        output: RequestOutput = await self._request(start, prompt, params, on_output)
        return output

    async def supported_tasks(self) -> tuple[str, ...]:
        """Returns what the model can be asked for; see `EngineBase`."""
        if self._closed:
            raise _was_closed()
        if self._tasks is None:
            call = self.vllm_engine.get_supported_tasks()
            if self.loop is None:
                found = await call
            else:
                found = await asyncio.wrap_future(self.loop.submit(call))
            self._tasks = tuple(found)
        return self._tasks

    def load_adapter(self, request: "LoRARequest") -> None:
        """Loads a LoRA adapter; see `VllmEngine`.

        The first request loads it into an engine of the caller's, which lives on another loop.
        """
        if self.loop is not None:
            with convert_adapter_errors(request.lora_path):
                self.loop.call(self.vllm_engine.add_lora(request))

    async def encode(self, tokens: Tokens, params: "PoolingParams") -> "PoolingRequestOutput[Any]":
        """Sends one request to a pooling engine; see `EngineBase`."""
        output: PoolingRequestOutput[Any] = await self._request(
            self.vllm_engine.encode, NO_OPTIONS.vllm_prompt(tokens), params
        )
        return output

    @property
    def can_report(self) -> bool:
        """Whether the engine's workers can report; with data parallelism they cannot.

        The call that reads a report reaches one of the engines only.
        """
        config = self.vllm_engine.vllm_config
        return has_reporter(config) and config.parallel_config.data_parallel_size == 1

    async def read_report(self, ticket: str, num_drawn: int) -> Report | None:
        """Returns what hooks measured of a request; a call to the engine's process."""
        read = self._read(ticket, num_drawn)
        if self.loop is None:
            return await read
        return await asyncio.wrap_future(self.loop.submit(read))

    def close(self) -> None:
        """Fails what is open, and shuts the engine down if rsalign started it."""
        if self._closed:
            return
        self._closed = True
        if self.loop is not None:
            self.loop.call(self._stop_listening())
            self.vllm_engine.shutdown()
            self.loop.stop()
        if self._watchdog is not None:
            self._watchdog.dismiss()
        atexit.unregister(self.close)

    async def _request(
        self,
        start: Any,
        prompt: Mapping[str, Any],
        params: Any,
        on_output: Callable[[Any], None] | None = None,
    ) -> Any:
        if self._closed:
            raise _was_closed()
        if self.loop is None:
            self._check_home()
        request_id = f"rsalign-{next(_REQUEST_IDS)}"
        consume = self._consume(start, prompt, params, request_id, on_output)
        if self.loop is None:
            consumer: asyncio.Future[Any] = asyncio.ensure_future(consume)
        else:
            consumer = asyncio.wrap_future(self.loop.submit(consume))
        self._num_open += 1
        try:
            # shielded: vLLM answers an abort with the tokens that it has drawn
            return await asyncio.shield(consumer)
        except asyncio.CancelledError:
            output = await self._aborted(request_id, consumer)
            if hasattr(output, "prompt_logprobs"):  # of a completion, and not of pooling
                report_cancelled_draw(
                    tuple(prompt["prompt_token_ids"]), tuple(output.outputs[0].token_ids)
                )
            raise
        finally:
            self._num_open -= 1

    def _check_home(self) -> None:
        """Refuses an adopted engine on another loop than its own, where no output would arrive."""
        handler = self.vllm_engine.output_handler
        here = asyncio.get_running_loop()
        home = handler.get_loop() if handler is not None else here
        if home is not here:
            raise ConfigError(
                "the AsyncLLM you gave lives on another event loop: await agenerate() there, or "
                "give a model id or path and let rsalign start the engine"
            )

    async def _consume(
        self,
        start: Any,
        prompt: Mapping[str, Any],
        params: Any,
        request_id: str,
        on_output: Callable[[Any], None] | None,
    ) -> Any:
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        final = None
        try:
            async for output in start(prompt, params, request_id):
                final = output
                if on_output is not None:
                    on_output(output)
        except EngineDeadError as died:
            raise self._died(died) from died
        except EngineGenerateError as failed:  # its cause has the message
            raise request_error(failed.__cause__ or failed) from failed.__cause__
        except Exception as failed:
            raise request_error(failed) from failed
        return final

    async def _read(self, ticket: str, num_drawn: int) -> Report | None:
        call = asyncio.ensure_future(
            self.vllm_engine.collective_rpc("rsalign_read_report", args=(ticket, num_drawn))
        )
        try:
            # vLLM never answers a call that is open when the engine dies
            while not call.done():
                if self._closed or self.vllm_engine.errored:
                    raise self._died(self.vllm_engine.dead_error)
                await asyncio.wait([call], timeout=1)
        finally:
            call.cancel()
        failure = call.exception()
        if failure is not None:
            raise self._died(failure) from failure
        # one for each worker; a worker that does not sample has none
        return next((report for report in call.result() if report is not None), None)

    def _died(self, cause: BaseException) -> EngineError:
        if self._closed:
            return _was_closed()
        return EngineError(
            f"the engine of {self.vllm_engine.model_config.model} died ({cause}) and will not "
            "recover: close it and start another"
        )

    async def _stop_listening(self) -> None:
        """Stops vLLM's output task, which would report the end of the process as a crash."""
        from vllm.v1.engine.exceptions import EngineDeadError

        handler = self.vllm_engine.output_handler
        if handler is not None:
            handler.cancel()
            await asyncio.wait([handler])
        self.vllm_engine.output_processor.propagate_error(EngineDeadError())

    async def _aborted(self, request_id: str, consumer: "asyncio.Future[Any]") -> Any:
        abort = self.vllm_engine.abort(request_id)
        with contextlib.suppress(RsalignError):
            if self.loop is None:
                await abort
            else:
                await asyncio.wrap_future(self.loop.submit(abort))
            done, _ = await asyncio.wait([consumer], timeout=5)
            if done:
                return consumer.result()
            consumer.cancel()
        return None


def _was_closed() -> EngineError:
    return EngineError("the engine was closed: start another")

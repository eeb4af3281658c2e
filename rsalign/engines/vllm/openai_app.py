"""The one module that touches what vLLM does not promise: launchers, handlers, detokenizer.

Tested with vLLM 0.32.*, whose modules moved in that release. With another version it is tried, with
a warning (`rsalign.engines.vllm.guards.import_vllm`), and what is missing is said when this is
imported.
"""

import contextlib
from argparse import Namespace
from collections.abc import AsyncIterator, Sequence
from typing import Any

from rsalign.core.errors import InstallError
from rsalign.engines.vllm.guards import (
    TESTED_VLLM,
    engine_arguments,
    environment,
    import_vllm,
    is_cpu_build,
    load_hooks,
    load_reporter,
)
from rsalign.engines.vllm.watchdog import Watchdog, children

_VLLM = import_vllm()

try:
    from vllm import plugins
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.engine.protocol import EngineClient
    from vllm.entrypoints.launchers.api_server.entry import build_and_serve
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.entrypoints.launchers.launcher import setup_server
    from vllm.entrypoints.openai.models.protocol import BaseModelPath
    from vllm.entrypoints.openai.responses.utils import (
        should_continue_final_message as continues_final_message,
    )
    from vllm.entrypoints.serve.engine.protocol import ErrorResponse, ModelCard, ModelPermission
    from vllm.entrypoints.serve.exception_handling.error_response import create_error_response
    from vllm.entrypoints.serve.exception_handling.handlers.exception import exception_handler
    from vllm.entrypoints.serve.exception_handling.handlers.http import http_exception_handler
    from vllm.exceptions import (
        GracefulHTTPError,
        VLLMUnprocessableEntityError,
        VLLMValidationError,
    )
    from vllm.logger import configure_logging_from_args
    from vllm.usage.usage_lib import UsageContext
    from vllm.utils.argparse_utils import FlexibleArgumentParser
    from vllm.v1.engine import EngineCoreRequest
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.engine.detokenizer import IncrementalDetokenizer
    from vllm.v1.engine.exceptions import EngineDeadError
except ImportError as missing:
    raise InstallError(
        f"vLLM {_VLLM.__version__} has not what serving needs of it ({missing}): install "
        f"{TESTED_VLLM}.*, with which rsalign is tested"
    ) from missing

__all__ = [
    "AsyncLLM",
    "BaseModelPath",
    "EngineClient",
    "EngineDeadError",
    "ErrorResponse",
    "GracefulHTTPError",
    "VLLMUnprocessableEntityError",
    "VLLMValidationError",
    "continues_final_message",
    "create_error_response",
    "engine",
    "exception_handler",
    "http_exception_handler",
    "listen",
    "model_card",
    "new_detokenizer",
    "parse_flags",
    "serve_app",
]

_NOT_FOR_SERVERS = {
    "model",
    "use_tqdm_on_load",
    # /metrics is made of the statistics
    "disable_log_stats",
    # a request without a strategy has the log-probabilities that vLLM gives it elsewhere
    "logprobs_mode",
}


def parse_flags(model: str, flags: Sequence[str]) -> Namespace:
    """Flags of ``vllm serve``; on CPU the guards' values stand for what is not given.

    vLLM ends the process, with a message, if it does not know a flag.
    """
    parser = make_arg_parser(FlexibleArgumentParser(prog="rsalign serve"))
    if is_cpu_build():
        given, _ = parser.parse_known_args(["--model", model, *flags])
        guards = engine_arguments(
            model, {"max_model_len": getattr(given, "max_model_len", None)}, pooling=False
        )
        parser.set_defaults(
            **{name: value for name, value in guards.items() if name not in _NOT_FOR_SERVERS}
        )
    arguments: Namespace = parser.parse_args(["--model", model, *flags])
    configure_logging_from_args(arguments)
    validate_parsed_serve_args(arguments)
    return arguments


@contextlib.asynccontextmanager
async def engine(arguments: Namespace) -> AsyncIterator[AsyncLLM]:
    """An engine as ``vllm serve`` starts it, which can also end segments, and dies with us."""
    engine_args = AsyncEngineArgs.from_cli_args(arguments)
    before = children()
    # On CPU a single child process then does the work instead of two, and starts twice as fast.
    with environment(VLLM_ENABLE_V1_MULTIPROCESSING="0") if is_cpu_build() else environment():
        config = engine_args.create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)
        load_hooks(config)
        load_reporter(config)
        started = AsyncLLM.from_vllm_config(
            config,
            usage_context=UsageContext.OPENAI_API_SERVER,
            enable_log_requests=engine_args.enable_log_requests,
            aggregate_engine_logging=engine_args.aggregate_engine_logging,
            disable_log_stats=engine_args.disable_log_stats,
        )
    watchdog = Watchdog(children() - before)
    try:
        await started.reset_mm_cache()
        yield started
    finally:
        started.shutdown(timeout=config.shutdown_timeout)
        watchdog.dismiss()


def listen(arguments: Namespace) -> tuple[str, Any]:
    """The address and the socket to serve on, bound before anything slow is started."""
    address, listener = setup_server(arguments, reuse_port=False)
    return address, listener


async def serve_app(
    client: AsyncLLM, address: str, listener: Any, arguments: Namespace, plugin: Any
) -> Any:
    """Serves vLLM's application with one more endpoint plug-in, until it is told to stop.

    Returns:
        What shuts the server down when it is awaited, after the engine.
    """
    load = plugins.load_endpoint_plugins

    def load_with_ours(supported_tasks: Any = None) -> list[Any]:
        # VLLM_PLUGINS may name ours, too
        return [each for each in load(supported_tasks) if each.name != plugin.name] + [plugin]

    plugins.load_endpoint_plugins = load_with_ours
    try:
        return await build_and_serve(client, address, listener, arguments)
    finally:
        plugins.load_endpoint_plugins = load


def model_card(name: str, like: ModelCard) -> ModelCard:
    """An entry of ``/v1/models`` for another name of the same model."""
    return like.model_copy(update={"id": name, "permission": [ModelPermission()]})


def new_detokenizer(tokenizer: Any, params: Any, prompt: Sequence[int]) -> IncrementalDetokenizer:
    """What turns the tokens of one answer into text as vLLM's engine does."""
    request = EngineCoreRequest(
        request_id="",
        prompt_token_ids=list(prompt),
        mm_features=None,
        sampling_params=params,
        pooling_params=None,
        arrival_time=0.0,
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
    )
    return IncrementalDetokenizer.from_new_request(
        tokenizer if params.detokenize else None, request
    )

"""vLLM's OpenAI-compatible server: its flags, its application, its handlers and their errors.

Importing this module raises `InstallError` with an older vLLM than 0.31, and where something is
missing.
"""

import contextlib
from argparse import Namespace
from collections.abc import AsyncIterator, Sequence
from typing import Any

from rsalign.core.errors import InstallError
from rsalign.engines.vllm.building import (
    Prepare,
    add_reporter,
    configure,
    engine_arguments,
    few_processes,
)
from rsalign.engines.vllm.context_length import tell_context_length
from rsalign.engines.vllm.environment import import_vllm, is_cpu_build
from rsalign.engines.vllm.release import NEWEST, OLDEST_SERVING, RELEASE, SINCE_0_33, show
from rsalign.engines.vllm.start_errors import convert_start_errors
from rsalign.engines.vllm.watchdog import Watchdog, child_pids

_VLLM = import_vllm()
_NEEDED = f"install {show(OLDEST_SERVING)} to {show(NEWEST)}"

if RELEASE < OLDEST_SERVING:
    raise InstallError(
        f"serving needs vLLM {show(OLDEST_SERVING)} or newer, and {_VLLM.__version__} is "
        f"installed: {_NEEDED}, or use Aligner, aligned(...) or `rsalign generate`, which run on it"
    )
try:
    from vllm import plugins
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.engine.protocol import EngineClient
    from vllm.entrypoints.launchers.api_server.entry import build_and_serve
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
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.engine.exceptions import EngineDeadError

    if SINCE_0_33:
        from vllm.entrypoints.common.cli_args import make_arg_parser, validate_parsed_serve_args
    else:
        from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
except ImportError as missing:
    raise InstallError(
        f"vLLM {_VLLM.__version__} has not what serving needs of it ({missing}): {_NEEDED}"
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
    "exception_handler",
    "http_exception_handler",
    "listen",
    "model_card",
    "parse_flags",
    "run_engine",
    "serve_app",
]

_NOT_FOR_SERVERS = {
    "model",
    "use_tqdm_on_load",
    # vLLM's own default is the same, and shows whether the flag was given
    "enable_prefix_caching",
    # /metrics is made of the statistics
    "disable_log_stats",
    # a request without a strategy has the log-probabilities that vLLM gives it elsewhere
    "logprobs_mode",
}


def parse_flags(model: str, flags: Sequence[str]) -> Namespace:
    """Parses the flags of ``vllm serve``; on CPU builds rsalign's values are the defaults.

    vLLM ends the process, with a message, if it does not know a flag.
    """
    parser = make_arg_parser(FlexibleArgumentParser(prog="rsalign serve"))
    # draws that nobody reads as they come make way for requests without a strategy
    parser.set_defaults(scheduling_policy="priority")
    if is_cpu_build():
        given, _ = parser.parse_known_args(["--model", model, *flags])
        sizes = {name: getattr(given, name, None) for name in ("max_model_len", "max_num_seqs")}
        defaults = engine_arguments(model, sizes, pooling=False)
        parser.set_defaults(
            **{name: value for name, value in defaults.items() if name not in _NOT_FOR_SERVERS}
        )
    arguments: Namespace = parser.parse_args(["--model", model, *flags])
    configure_logging_from_args(arguments)
    validate_parsed_serve_args(arguments)
    return arguments


@contextlib.asynccontextmanager
async def run_engine(arguments: Namespace, prepare: Prepare) -> AsyncIterator[AsyncLLM]:
    """Runs an engine as ``vllm serve`` starts it, for the length of a block.

    Its processes end with this one, however this one ends.

    Args:
        arguments: of `parse_flags`.
        prepare: may change the configuration before the engine is built.
    """
    engine_args = AsyncEngineArgs.from_cli_args(arguments)
    before = child_pids()
    with convert_start_errors(arguments.model, vars(arguments)), few_processes():
        caching = engine_args.enable_prefix_caching
        given = {} if caching is None else {"enable_prefix_caching": caching}
        config, own_length = configure(
            engine_args, given, usage_context=UsageContext.OPENAI_API_SERVER
        )
        prepare(config)
        add_reporter(config)
        started = AsyncLLM.from_vllm_config(
            config,
            usage_context=UsageContext.OPENAI_API_SERVER,
            enable_log_requests=engine_args.enable_log_requests,
            aggregate_engine_logging=engine_args.aggregate_engine_logging,
            disable_log_stats=engine_args.disable_log_stats,
        )
    tell_context_length(config, own_length)
    watchdog = Watchdog(child_pids() - before)
    try:
        await started.reset_mm_cache()
        yield started
    finally:
        started.shutdown(timeout=config.shutdown_timeout)
        watchdog.dismiss()


def listen(arguments: Namespace) -> tuple[str, Any]:
    """Returns the address and the bound socket to serve on, before anything slow is started."""
    address, listener = setup_server(arguments, reuse_port=False)
    return address, listener


async def serve_app(
    client: AsyncLLM, address: str, listener: Any, arguments: Namespace, plugin: Any
) -> Any:
    """Serves vLLM's application, with one more endpoint plug-in, until it is told to stop.

    Returns:
        An awaitable that shuts the server down; await it after the engine has stopped.
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
    """Returns an entry of ``/v1/models`` for another name of the same model."""
    return like.model_copy(update={"id": name, "permission": [ModelPermission()]})

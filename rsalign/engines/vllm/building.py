"""Builds vLLM's engines: the arguments that rsalign adds, and what has to be done around a build.

Each value has a crash or a measurement on vLLM 0.32 as its reason, given beside it. An argument
that the caller has set is never changed.
"""

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from rsalign.core.checks import check_value
from rsalign.engines.vllm.context_length import create_config, tell_context_length
from rsalign.engines.vllm.cpu_speculation import mend_sampling, mend_start
from rsalign.engines.vllm.environment import (
    chooses_second_runner,
    is_cpu_build,
    temporary_environment,
)
from rsalign.engines.vllm.memory import check_memory
from rsalign.engines.vllm.model_folder import is_quantized
from rsalign.engines.vllm.release import OLDEST_V2_HOOKS, RELEASE

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.engine.llm_engine import LLMEngine

Prepare: TypeAlias = "Callable[[VllmConfig], None]"
"""Called with the complete configuration just before the engine is built, and may change it.

The packages above the engines add their logits processors so (`rsalign.hooks.loading.add_hooks`).
"""

_CPU_ARGUMENTS: Mapping[str, Any] = {
    # float32 makes (prompt, seed) -> tokens independent of what else runs; bf16 does not.
    "dtype": "float32",
    "enforce_eager": True,
    "block_size": 32,  # the smallest that works; only whole blocks of a prefix are cached
    "kv_cache_memory_bytes": 512 << 20,  # otherwise vLLM takes nearly all memory
}
_CPU_ARGUMENTS_OF_THE_FIRST_RUNNER: Mapping[str, Any] = {
    # A seeded request whose prompt is split kills the engine ("CPU Generator does not use offset").
    "enable_chunked_prefill": False,
}
_ALWAYS_ARGUMENTS: Mapping[str, Any] = {"disable_log_stats": True}
_SIZES = ("max_model_len", "max_num_seqs")
_HF_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")
_REPORTER = "rsalign.engines.reports.Reporter"


def leave_config(config: "VllmConfig") -> None:
    """The `Prepare` that changes nothing."""


def engine_arguments(model: str, given: Mapping[str, Any], *, pooling: bool) -> dict[str, Any]:
    """Returns the arguments for vLLM's `EngineArgs`.

    Args:
        model: path or Hugging Face id.
        given: the caller's arguments, which win.
        pooling: for a reward model; False for a model that generates.
    """
    arguments = dict(_ALWAYS_ARGUMENTS)
    if pooling:
        arguments["runner"] = "pooling"
        # vLLM itself caches prefixes of causal models; it cannot for encoders, and dies if told to
    else:
        arguments["enable_prefix_caching"] = True
        # log-probabilities of the law the tokens are drawn from: after temperature and truncation
        arguments["logprobs_mode"] = "processed_logprobs"
    if is_cpu_build():
        arguments |= _CPU_ARGUMENTS
        if not chooses_second_runner():
            arguments |= _CPU_ARGUMENTS_OF_THE_FIRST_RUNNER
        if is_quantized(model, given):
            arguments["dtype"] = "auto"  # no quantized weights are multiplied in float32
        # where prompts are not split, a step must have room for the longest
        needed = [check_value("engine_args", name, given.get(name), int | None) for name in _SIZES]
        arguments["max_num_batched_tokens"] = max(16384, *(size or 0 for size in needed))
    if "tokenizer" not in given and has_mistral_tokenizer_only(model):
        arguments["tokenizer_mode"] = "mistral"
    return {"model": model, "use_tqdm_on_load": False} | arguments | dict(given)


def has_mistral_tokenizer_only(model: str) -> bool:
    """Whether a model's folder has a tokenizer in Mistral's format, and none in Hugging Face's.

    vLLM by itself would convert it, and lose the chat template. The tokenizer of a Hugging Face id
    is not looked at: ``tokenizer_mode="mistral"`` asks for it.
    """
    folder = Path(model)
    mistral = any(folder.glob("tekken.json")) or any(folder.glob("tokenizer.model.v*"))
    return mistral and not any((folder / name).is_file() for name in _HF_TOKENIZERS)


def plan_engine(model: str) -> "tuple[VllmConfig, int]":
    """Returns the configuration that an engine for a model would have; builds none.

    Returns:
        The configuration, and the context that the model itself allows, in tokens.
    """
    from vllm.engine.arg_utils import EngineArgs

    return configure(EngineArgs(**engine_arguments(model, {}, pooling=False)), {})


def build_llm_engine(
    model: str, given: Mapping[str, Any], *, pooling: bool, prepare: Prepare
) -> "LLMEngine":
    """Builds an engine whose scheduler and model run in this process."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine

    arguments = engine_arguments(model, given, pooling=pooling)
    if is_cpu_build() and arguments["dtype"] != "float32":
        enable_amx()
    mend_start()
    with temporary_environment(VLLM_ENABLE_V1_MULTIPROCESSING="0"), keep_host_random_state():
        config, own_length = prepared_config(EngineArgs(**arguments), prepare, given)
        engine: LLMEngine = LLMEngine.from_vllm_config(
            config, disable_log_stats=arguments["disable_log_stats"]
        )
    tell_context_length(config, own_length)
    return engine


async def build_async_llm(
    model: str, given: Mapping[str, Any], *, pooling: bool, prepare: Prepare
) -> "AsyncLLM":
    """Builds an engine in a process of its own, on the running event loop."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    arguments = engine_arguments(model, given, pooling=pooling)
    with few_processes():
        args = AsyncEngineArgs(**arguments)
        config, own_length = prepared_config(args, prepare, given)
        mend_sampling(config, in_process=False)
        add_reporter(config)
        engine: AsyncLLM = AsyncLLM.from_vllm_config(
            config,
            enable_log_requests=args.enable_log_requests,
            disable_log_stats=args.disable_log_stats,
        )
    tell_context_length(config, own_length)
    return engine


def prepared_config(
    args: "EngineArgs", prepare: Prepare, given: Mapping[str, Any]
) -> "tuple[VllmConfig, int]":
    """Returns the configuration of an engine, with what `prepare` does to it.

    Args:
        args: for the engine; may be changed.
        prepare: changes the configuration.
        given: the caller's arguments, which are not changed.

    Below vLLM 0.31 the second model runner takes no logits processors, and vLLM decides on the
    first one as it makes the configuration: it is made again if `prepare` has added any.

    Returns:
        The configuration, and the context that the model itself, or the caller, allows.
    """
    asked_length = args.max_model_len
    config, own_length = configure(args, given)
    runner = getattr(config, "use_v2_model_runner", False)
    prepare(config)
    if RELEASE < OLDEST_V2_HOOKS and runner and config.model_config.logits_processors:
        args.logits_processors = config.model_config.logits_processors
        args.max_model_len = asked_length
        config, own_length = create_config(args)
        prepare(config)
    check_memory(config)
    return config, own_length


def configure(
    args: "EngineArgs", given: Mapping[str, Any], **options: Any
) -> "tuple[VllmConfig, int]":
    """As `create_config`, without a prefix cache where the model has no cheap one.

    Models with a state (Mamba and its like) can cache prefixes only with chunked prefill, which
    seeded requests on CPU exclude.

    Args:
        args: may be changed.
        given: the caller's arguments, which stay.
        options: of vLLM's ``create_engine_config``.
    """
    asked_length = args.max_model_len
    try:
        return create_config(args, **options)
    except ValueError:
        chosen = "enable_prefix_caching" in given or not is_cpu_build()
        if chosen or not args.create_model_config().has_inner_state:
            raise
    args.enable_prefix_caching = False
    args.max_model_len = asked_length
    return create_config(args, **options)


def few_processes() -> contextlib.AbstractContextManager[None]:
    """The environment in which an `AsyncLLM` is built.

    On CPU a single child process then does the work of two, and starts twice as fast.
    """
    if is_cpu_build():
        return temporary_environment(VLLM_ENABLE_V1_MULTIPROCESSING="0")
    return contextlib.nullcontext()


def has_reporter(config: "VllmConfig") -> bool:
    """Tells whether an engine's workers can report what hooks measured (`engines.reports`)."""
    return str(config.parallel_config.worker_extension_cls) == _REPORTER


def add_reporter(config: "VllmConfig") -> None:
    """Lets the workers of an engine about to start report what hooks measured.

    vLLM has room for one extension of its workers: one that the caller has named stays.
    """
    if not config.parallel_config.worker_extension_cls:
        config.parallel_config.worker_extension_cls = _REPORTER


def enable_amx() -> None:
    """Asks the kernel for permission to use AMX, before the first bf16 product.

    With `enforce_eager` the first forward pass of at most four tokens in bf16 otherwise dies with
    an illegal instruction, because nothing has asked for the permission by then.
    """
    import torch

    init = getattr(torch.cpu, "_init_amx", None)
    if init is not None:
        init()


@contextlib.contextmanager
def keep_host_random_state() -> Iterator[None]:
    """Restores the global random generators, which vLLM seeds while it builds an engine here."""
    import numpy as np
    import torch

    python, numpy, pytorch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(pytorch)

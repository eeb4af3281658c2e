"""Which kind of logits processors an engine takes: vLLM has two model runners, each with its own.

The base classes are in `logits_processors_v1` and `logits_processors_v2`, so that a process imports
only those of its runner.
"""

import os
from typing import TYPE_CHECKING, Any

from rsalign.core.errors import ConfigError
from rsalign.engines.vllm.release import OLDEST_V2_HOOKS, SINCE_0_31, show

if TYPE_CHECKING:
    from vllm.config import VllmConfig


def model_runner(config: "VllmConfig") -> str:
    """Returns ``"v1"`` or ``"v2"``: the model runner of an engine that has logits processors.

    Below vLLM 0.31 the second runner takes none. vLLM then chooses the first one for an engine that
    has any, unless ``VLLM_USE_V2_MODEL_RUNNER=1`` forces the second.
    """
    return "v2" if SINCE_0_31 and getattr(config, "use_v2_model_runner", False) else "v1"


def why_no_logits_processors(config: "VllmConfig") -> str:
    """Returns why an engine with this configuration can run no logits processors, and what to do.

    Returns:
        A sentence for a message; empty if the engine can run them.
    """
    model = config.model_config
    if model.runner_type != "generate":
        return "the engine scores and does not generate"
    if config.speculative_config is not None:
        method = getattr(config.speculative_config, "method", None)
        return (
            f"the engine speculates (speculative_config, method {method!r}), and vLLM runs no "
            "logits processors then: start it without speculative_config"
        )
    if getattr(model, "return_sampling_mask", False):
        return "the engine returns sampling masks: start it without return_sampling_mask"
    if not SINCE_0_31 and os.environ.get("VLLM_USE_V2_MODEL_RUNNER", "0") not in ("", "0"):
        return (
            "vLLM's second model runner takes logits processors from "
            f"{show(OLDEST_V2_HOOKS)} on: install that, or unset VLLM_USE_V2_MODEL_RUNNER"
        )
    return ""


def refuse_sharded_sampling(config: "VllmConfig") -> None:
    """Refuses an engine whose workers share out the requests that they sample.

    Each worker then sees the logits of its own requests only, and a request that was preempted may
    come back to another, so that what a logits processor remembers or reports is lost.

    Raises:
        ConfigError: before the engine starts, or when it does.
    """
    parallel = getattr(config, "parallel_config", None)
    if getattr(parallel, "enable_batch_sharded_sampling", False):
        raise ConfigError(
            "enable_batch_sharded_sampling=True: rsalign's logits processors need every worker to "
            "sample all requests; leave it out, or start the engine without them"
        )


def running_logits_processors(engine: Any) -> list[Any]:
    """Returns the custom and other logits processors of an engine whose model runs in this process.

    Args:
        engine: vLLM's `LLMEngine`, started with ``VLLM_ENABLE_V1_MULTIPROCESSING=0``.
    """
    runner = engine.model_executor.driver_worker.worker.model_runner
    if model_runner(engine.vllm_config) == "v2":
        return list(runner.sampler.logits_processors)
    return list(runner.input_batch.logitsprocs.all)

"""Which kind of logits processors an engine takes: vLLM has two model runners, each with its own.

The base classes are in `logits_processors_v1` and `logits_processors_v2`, so that a process imports
only those of its runner.
"""

from typing import TYPE_CHECKING, Any

from rsalign.core.errors import ConfigError

if TYPE_CHECKING:
    from vllm.config import VllmConfig


def model_runner(config: "VllmConfig") -> str:
    """Returns ``"v1"`` or ``"v2"``: the model runner of an engine with this configuration."""
    return "v2" if getattr(config, "use_v2_model_runner", False) else "v1"


def takes_logits_processors(config: "VllmConfig") -> bool:
    """Tells whether an engine with this configuration can run logits processors at all."""
    model = config.model_config
    return (
        model.runner_type == "generate"
        and config.speculative_config is None
        and not getattr(model, "return_sampling_mask", False)
    )


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

"""Which kind of logits processors an engine takes: vLLM has two model runners, each with its own.

The base classes are in `logits_processors_v1` and `logits_processors_v2`, so that a process imports
only those of its runner.
"""

from typing import TYPE_CHECKING, Any

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


def running_logits_processors(llm: Any) -> list[Any]:
    """Returns the logits processors of a `vllm.LLM` whose model runs in this process (runner v1).

    Args:
        llm: started with ``VLLM_ENABLE_V1_MULTIPROCESSING=0``.
    """
    runner = llm.llm_engine.model_executor.driver_worker.worker.model_runner
    return list(runner.input_batch.logitsprocs.all)

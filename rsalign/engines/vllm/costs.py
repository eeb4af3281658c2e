"""What a step of an engine costs, and continuing an answer where it costs more than usual."""

import logging
from functools import cache
from typing import TYPE_CHECKING

from rsalign.engines.vllm.environment import is_cpu_build

if TYPE_CHECKING:
    from vllm.config import VllmConfig

logger = logging.getLogger(__name__)

_LARGE_BLOCK = 128
"""vLLM's usual blocks have 16 to 128 tokens; those of models with a state may have thousands."""

_ROWS_OF_A_STEP = {"cpu": 12, "gpu": 200}
"""CPU: measured, one core, float32: 9.5 ms a step and 0.8 ms a request at 48 M parameters. GPU: the
arithmetic of bfloat16 by the bytes of memory, a second: 156 (A100), 295 (H100)."""


def rows_of_a_step() -> int:
    """The number of requests that together cost as much as a step of an engine does by itself.

    A step reads all weights once, however many requests it computes a token for. How many requests
    take as long as that depends on the machine, and hardly on the model.
    """
    return _ROWS_OF_A_STEP["cpu" if is_cpu_build() else "gpu"]


def prefix_cost(config: "VllmConfig") -> str:
    """Returns what a strategy that continues answers costs in an engine; empty if the usual.

    Such a strategy sends the prompt and the kept part of an answer again with each draw. Usually
    vLLM has all whole blocks of them in its cache.

    Args:
        config: of the engine.
    """
    model, cache_config = config.model_config, config.cache_config
    if model.runner_type != "generate":
        return ""
    again = "strategies that continue an answer (Cards, QAlign, ...)"
    if not cache_config.enable_prefix_caching:
        reason = " (vLLM has none by default for models with a state)"
        advice = "; enable_prefix_caching=True would give it one"
        return (
            f"the engine of {model.model} has no prefix cache"
            f"{reason if model.has_inner_state else ''}: {again} compute the prompt and the kept "
            f"tokens anew for every draw{'' if model.has_inner_state else advice}"
        )
    if (block := cache_config.block_size or 0) > _LARGE_BLOCK:
        return (
            f"the engine of {model.model} caches prefixes in blocks of {block} tokens: {again} "
            "compute what exceeds the last whole block anew for every draw"
        )
    return ""


def tell_prefix_cost(config: "VllmConfig") -> None:
    """Logs `prefix_cost` as a warning, once for each engine's model."""
    if cost := prefix_cost(config):
        _warn(cost)


@cache
def _warn(cost: str) -> None:
    logger.warning("%s", cost)

"""How long a context an engine gets where the caller did not say.

rsalign starts engines on CPUs without chunked prefill, so that a whole prompt must fit into one
step, and with a small KV cache. The real context of most models fits into neither.
"""

import logging
from typing import TYPE_CHECKING, Any

from rsalign.core.errors import ConfigError
from rsalign.engines.vllm.environment import is_cpu_build
from rsalign.engines.vllm.model_inspection import inspect_models_here

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.engine.arg_utils import EngineArgs

logger = logging.getLogger(__name__)

_AUTOMATIC = -1
"""VLLM's ``max_model_len`` for the longest context that its KV cache holds."""


def create_config(args: "EngineArgs", **options: Any) -> "tuple[VllmConfig, int]":
    """Creates the configuration of an engine; on CPU the context is as long as can be.

    Without ``max_model_len`` that is the model's own, or what one step and the KV cache hold, if
    that is less. The cache is asked when the engine starts (`tell_context_length`).

    Args:
        args: may be changed.
        options: of vLLM's ``create_engine_config``.

    Returns:
        The configuration, and the context that the model itself, or the caller, allows.

    Raises:
        ConfigError: if the given arguments contradict each other.
    """
    if not is_cpu_build():
        config = args.create_engine_config(**options)
        return config, int(config.model_config.max_model_len)
    inspect_models_here()
    step = None if args.enable_chunked_prefill else args.max_num_batched_tokens
    if args.max_model_len in (None, _AUTOMATIC):
        own = int(args.create_model_config().max_model_len)
        args.max_model_len = own if step is None else min(own, step)
        config = args.create_engine_config(**options)
        # vLLM then takes what its KV cache holds, if that is less
        config.model_config.original_max_model_len = _AUTOMATIC
        return config, own
    if step is not None and args.max_model_len > step:
        raise ConfigError(
            f"max_model_len={args.max_model_len} needs steps of as many tokens, but "
            f"max_num_batched_tokens={step}: leave one of them out, or give "
            "enable_chunked_prefill=True (vLLM's CPU build then fails on a seeded request whose "
            "prompt takes several steps)"
        )
    return args.create_engine_config(**options), int(args.max_model_len)


def tell_context_length(config: "VllmConfig", own: int) -> None:
    """Logs that the context of a started engine is shorter than the model's own.

    Args:
        config: of the engine.
        own: see `create_config`.
    """
    length = int(config.model_config.max_model_len)
    if length < own:
        logger.warning(
            "%s has a context of %d tokens here, and of %d by itself: for more, raise "
            "kv_cache_memory_bytes and max_model_len in its engine arguments",
            config.model_config.model,
            length,
            own,
        )

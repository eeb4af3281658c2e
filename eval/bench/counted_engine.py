"""An engine that counts the tokens for which its model ran."""

import time
from typing import Any

from rsalign.core.errors import PolicyError
from rsalign.engines.vllm.building import engine_arguments
from rsalign.engines.vllm.environment import import_vllm, temporary_environment
from rsalign.hooks.loading import add_hooks

_PATIENCE_SECONDS = 30.0


class CountedEngine:
    """A `vllm.LLM` in this process, with our hooks; what its scheduler grants is counted.

    That is what the model computed in fact: prefixes less what the cache had, drawn tokens, and
    what requests took that were cancelled on the way, which no answer to them can tell.

    Args:
        model: Hugging Face id or path.
        pooling: whether it judges; else it draws.

    Attributes:
        llm: to be adopted.
        tokens: computed since the last `reset`.
        steps: of the engine since then.
    """

    def __init__(self, model: str, *, pooling: bool) -> None:
        vllm = import_vllm()
        arguments = engine_arguments(model, {}, pooling=pooling)
        # the scheduler is out of reach else
        with temporary_environment(VLLM_ENABLE_V1_MULTIPROCESSING="0"):
            if not pooling:
                config = vllm.EngineArgs(**arguments).create_engine_config()
                add_hooks(config)
                arguments["logits_processors"] = config.model_config.logits_processors
            self.llm: Any = vllm.LLM(**arguments)
        self.tokens = self.steps = 0
        scheduler = self.llm.llm_engine.engine_core.engine_core.scheduler
        schedule = scheduler.schedule

        def counting(*args: Any, **kwargs: Any) -> Any:
            granted = schedule(*args, **kwargs)
            self.tokens += granted.total_num_scheduled_tokens
            self.steps += granted.total_num_scheduled_tokens > 0
            return granted

        scheduler.schedule = counting

    @property
    def block_size(self) -> int:
        """Tokens of a block: of a prefix, only whole blocks are cached."""
        return int(self.llm.llm_engine.vllm_config.cache_config.block_size)

    def reset(self) -> None:
        """Empties the prefix cache, and counts from 0 again.

        Raises:
            PolicyError: if requests are open, and stay so.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self.llm.reset_prefix_cache():  # what was cancelled just now may hold blocks yet
            if time.monotonic() > deadline:
                raise PolicyError("the prefix cache cannot be emptied: requests are still open")
            time.sleep(0.01)
        self.tokens = self.steps = 0

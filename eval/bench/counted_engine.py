"""An engine that counts the tokens for which its model ran."""

import time
from typing import Any

from eval.bench.simulated_cache import SimulatedCache
from rsalign.core.errors import PolicyError
from rsalign.engines.vllm.building import engine_arguments
from rsalign.engines.vllm.environment import import_vllm, is_cpu_build, temporary_environment
from rsalign.hooks.loading import add_hooks

_PATIENCE_SECONDS = 30.0


class CountedEngine:
    """A `vllm.LLM` in this process, with our hooks; what its scheduler grants is counted.

    That is what the model computed in fact: prefixes less what the cache had, drawn tokens, and
    what requests took that were cancelled on the way, which no answer to them can tell.

    Args:
        model: Hugging Face id or path.
        pooling: whether it judges; else it draws.
        simulated_block: size of the blocks of another prefix cache; see `simulated_tokens`.

    Attributes:
        llm: to be adopted.
        tokens: computed since the last `reset`.
        simulated_tokens: what would have been computed with a prefix cache of blocks of
            `simulated_block` tokens, for the same requests.
        steps: of the engine since then.
    """

    def __init__(self, model: str, *, pooling: bool, simulated_block: int = 16) -> None:
        vllm = import_vllm()
        # 512 MiB, rsalign's default on CPUs, hold 8,000 tokens of a model of 48 M parameters in
        # float32: with 64 prompts what is read again would tell of that, not of the method
        room = {"kv_cache_memory_bytes": 2 << 30} if is_cpu_build() else {}
        arguments = engine_arguments(model, room, pooling=pooling)
        # the scheduler is out of reach else
        with temporary_environment(VLLM_ENABLE_V1_MULTIPROCESSING="0"):
            if not pooling:
                config = vllm.EngineArgs(**arguments).create_engine_config()
                add_hooks(config)
                arguments["logits_processors"] = config.model_config.logits_processors
            self.llm: Any = vllm.LLM(**arguments)
        self.tokens = self.simulated_tokens = self.steps = 0
        self._simulated = SimulatedCache(simulated_block)
        scheduler = self.llm.llm_engine.engine_core.engine_core.scheduler
        schedule, free = scheduler.schedule, scheduler._free_blocks

        def counting(*args: Any, **kwargs: Any) -> Any:
            granted = schedule(*args, **kwargs)
            self.tokens += granted.total_num_scheduled_tokens
            self.steps += granted.total_num_scheduled_tokens > 0
            self.simulated_tokens += granted.total_num_scheduled_tokens
            for begun in granted.scheduled_new_reqs:
                cached = self._simulated.count_cached(begun.prompt_token_ids)
                self.simulated_tokens += begun.num_computed_tokens - cached
                self._simulated.keep(begun.prompt_token_ids)
            return granted

        def freeing(request: Any) -> None:
            self._simulated.keep(list(request.all_token_ids)[: request.num_computed_tokens])
            free(request)

        scheduler.schedule, scheduler._free_blocks = counting, freeing

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
        self.tokens = self.simulated_tokens = self.steps = 0
        self._simulated.clear()

"""What one call of an `Aligner` says besides its prompts and parameters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rsalign.align import needs_reward
from rsalign.aligner.batch import OnError
from rsalign.aligner.inputs import per_prompt
from rsalign.budget import Budget
from rsalign.checks import SEED, whole
from rsalign.engines.options import RequestOptions
from rsalign.errors import ConfigError
from rsalign.protocols import Strategy


@dataclass(frozen=True, slots=True)
class Call:
    """What a call sets, partly instead of the aligner's own.

    Attributes:
        strategy: None: the aligner's.
        budget: None: the aligner's.
        seed: None: the aligner's.
        on_error: as in `Aligner.generate`.
        lora_request: one for all prompts or one per prompt.
        priority: one for all prompts or one per prompt.
    """

    strategy: Strategy | None
    budget: Budget | None
    seed: int | None
    on_error: OnError
    lora_request: Any = None
    priority: int | Sequence[int] | None = None

    def options(self, cache_salts: Sequence[str]) -> list[RequestOptions]:
        """What goes with the requests to the engine, for each prompt.

        Args:
            cache_salts: of each prompt; empty: it has none.

        Raises:
            ConfigError: if a list has another length than the prompts.
        """
        count = len(cache_salts)
        adapters = per_prompt(self.lora_request, count, "lora_request")
        priorities = per_prompt(self.priority, count, "priority")
        return [
            RequestOptions(cache_salt=salt, lora_request=adapter, priority=priority or 0)
            for salt, adapter, priority in zip(cache_salts, adapters, priorities, strict=True)
        ]


def check_call(strategy: Any, budget: Any, seed: Any, *, has_reward: bool) -> None:
    """Refuses what cannot answer anything.

    Raises:
        ConfigError: with the value.
    """
    if not isinstance(strategy, Strategy) or isinstance(strategy, type):
        raise ConfigError(
            f"strategy={strategy!r}: give an instance, such as BestOf(n=8); what it is must have "
            "`async def sample(prompt, run)`"
        )
    if budget is not None and not isinstance(budget, Budget):
        raise ConfigError(f"budget={budget!r}: give Budget(policy_tokens=..., seconds=...)")
    whole("Aligner", "seed", seed, SEED)
    if needs_reward(strategy) and not has_reward:
        raise ConfigError(
            f"{type(strategy).__name__} needs a reward: give reward=..., a model id or path, a "
            "Reward or a callable (prompt_text, response_text) -> float"
        )

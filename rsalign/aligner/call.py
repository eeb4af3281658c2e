"""What one call of an `Aligner` says besides its prompts and parameters."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rsalign.aligner import inputs
from rsalign.aligner.batch import OnError, law
from rsalign.aligner.inputs import Refused, Request, per_prompt
from rsalign.core.budget import Budget
from rsalign.core.capabilities import needs_reward
from rsalign.core.checks import SEED, check_int, quote
from rsalign.core.errors import ConfigError, RsalignError
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.protocols import Policy, Strategy
from rsalign.core.types import Prompt
from rsalign.engines.options import RequestOptions
from rsalign.words.parts import StrategyLike
from rsalign.words.read import OnRewardError


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
        on_reward_error: None: the aligner's.
    """

    strategy: StrategyLike | None
    budget: Budget | None
    seed: int | None
    on_error: OnError
    lora_request: Any = None
    priority: int | Sequence[int] | None = None
    on_reward_error: OnRewardError | None = None

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


def check_call(strategy: Strategy, budget: Any, seed: Any, *, has_reward: bool) -> None:
    """Refuses what cannot answer anything.

    Raises:
        ConfigError: with the value.
    """
    if budget is not None and not isinstance(budget, Budget):
        raise ConfigError(f"budget={quote(budget)}: give Budget(policy_tokens=..., seconds=...)")
    check_int("Aligner", "seed", seed, SEED)
    if needs_reward(strategy) and not has_reward:
        raise ConfigError(
            f"{type(strategy).__name__} needs a reward: give reward=..., a model id or path, a "
            "Reward or a callable (prompt_text, response_text) -> float"
        )


def requests(
    policy: Policy,
    found: Sequence[Prompt | Refused],
    params: Sequence[Any],
    strategy: Strategy,
    options: Sequence[RequestOptions],
    budget: Budget | None,
) -> list[Request | Refused]:
    """Each prompt with its parameters; where they cannot work, it is refused by itself.

    Args:
        policy: draws.
        found: the prompts.
        params: vLLM's `SamplingParams` of each.
        strategy: answers.
        options: what goes with the requests of each to the engine.
        budget: of each.

    Raises:
        ConfigError: if all prompts have the same parameters, and these cannot work.
    """
    made_of: list[Request | Refused] = []
    all_share = all(each is params[0] for each in params)
    for i, (prompt, each, carried) in enumerate(zip(found, params, options, strict=True)):
        if isinstance(prompt, Refused):
            made_of.append(prompt)
            continue
        try:
            with errors_as(partial(_unreadable, each)):
                made = inputs.request(prompt, each, strategy, carried)
                law(policy, made, budget)
        except RsalignError as error:
            if all_share:
                raise
            refused = ConfigError(f"prompt {i}: {error}")
            refused.__cause__ = error
            made_of.append(Refused(prompt.text, refused))
        else:
            made_of.append(made)
    return made_of


def _unreadable(params: Any, failure: BaseException) -> ConfigError:
    return ConfigError(
        f"sampling_params={quote(params)} cannot be honoured: {describe_error(failure)}"
    )

"""``--model_args``: an aligner's own arguments, and under any other name its strategy's."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from rsalign.align import needs_reward
from rsalign.aligner import Aligner
from rsalign.aligner.settings import build_strategy
from rsalign.budget import Budget
from rsalign.embedded import POLICY, REWARD
from rsalign.errors import ConfigError
from rsalign.protocols import Strategy

_TABLES = ("engine_args", "reward_args", "budget")
"""Arguments that are tables: a dot reaches into them."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What an aligner is made of, checked before an engine starts.

    Attributes:
        policy: model id, path or address, or whatever else `Aligner` takes.
        reward: likewise.
        strategy: how answers are drawn. Its length is the task's.
        seed: root of all randomness.
        budget: hard limits for each answer.
        engine_args: for the policy's engine.
        reward_args: for the reward's engine.
        journal: path of a record of draws.
        max_gen_toks: greatest length of an answer, if the task does not say.
    """

    policy: Any
    reward: Any
    strategy: Strategy
    seed: int = 0
    budget: Budget | None = None
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    reward_args: Mapping[str, Any] = field(default_factory=dict)
    journal: str | None = None
    max_gen_toks: int = 256

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "Arguments":
        """Understands ``policy=...``, ``strategy=...``, ``budget.seconds=...``, and settings.

        Without a policy, it is the embedded one; only that one comes with a reward.

        Raises:
            ConfigError: if something cannot work.
        """
        own, settings = _sorted(given)
        own = {"policy": POLICY} | own
        if own["policy"] == POLICY:
            own = {"reward": REWARD} | own
        strategy = own.pop("strategy", "best_of")
        if not isinstance(strategy, Strategy):
            strategy = _strategy(strategy, settings)
        elif settings:
            raise ConfigError(f"{settings}: the strategy is given ready-made; set them where it is")
        made = cls(**{"reward": None} | own | {"strategy": strategy})
        if needs_reward(strategy) and made.reward is None:
            raise ConfigError(
                f"{type(strategy).__name__} needs a reward: add reward=..., a model id or path, or "
                "the address of a vLLM pooling server"
            )
        return made

    def aligner(self) -> Aligner:
        """Starts the engines."""
        return Aligner(
            self.policy,
            self.reward,
            self.strategy,
            seed=self.seed,
            budget=self.budget,
            engine_args=self.engine_args,
            reward_args=self.reward_args,
            journal=self.journal,
        )


def _sorted(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The aligner's own arguments, and the strategy's settings."""
    known = {one.name for one in fields(Arguments)}
    own: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    tables: dict[str, dict[str, Any]] = {}
    for name, value in given.items():
        head, dot, rest = name.partition(".")
        if head in _TABLES and dot:
            tables.setdefault(head, {})[rest] = value
        elif head in _TABLES and isinstance(value, Mapping):
            tables.setdefault(head, {}).update(value)
        elif name in known:
            own[name] = value
        else:
            settings[name] = value
    if "budget" in tables:
        unknown = set(tables["budget"]) - set(inspect.signature(Budget).parameters)
        if unknown:
            allowed = ", ".join(inspect.signature(Budget).parameters)
            raise ConfigError(f"budget.{min(unknown)}: there is no such limit; there are {allowed}")
        own["budget"] = Budget(**tables.pop("budget"))
    return own | tables, settings


def _strategy(name: Any, settings: Mapping[str, Any]) -> Strategy:
    for setting in settings:
        if setting.rpartition(".")[2] == "max_tokens" and "segmenter" not in setting:
            raise ConfigError(
                f"{setting}: the length of an answer is the task's max_gen_toks; change it by "
                "--gen_kwargs max_gen_toks=..., or by the model argument max_gen_toks=... for "
                "tasks that have none"
            )
    try:
        return build_strategy(name, settings)
    except ConfigError as error:
        own = ", ".join(one.name for one in fields(Arguments))
        raise ConfigError(f"{error}. Beside the strategy's settings there are {own}") from error

"""``--model_args``: an aligner's own arguments, and under any other name its strategy's."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from rsalign.aligner import Aligner
from rsalign.core.budget import Budget
from rsalign.core.capabilities import needs_reward
from rsalign.core.errors import ConfigError
from rsalign.core.protocols import Strategy
from rsalign.embedded import POLICY
from rsalign.words.messages import guess, show
from rsalign.words.parts import default_reward, is_none
from rsalign.words.read import OnRewardError, Specification, read_words
from rsalign.words.values import convert

_TABLES = ("engine_args", "reward_args")
"""Arguments that are tables: a dot reaches into them."""
_OWN = ("policy", "reward", *_TABLES, "journal", "max_gen_toks")
"""Arguments that `rsalign.words.read` does not know."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What an aligner is made of, checked before an engine starts.

    Attributes:
        policy: model id, path or address, or whatever else `Aligner` takes.
        reward: likewise.
        strategy: how answers are drawn. Its length is the task's.
        seed: root of all randomness.
        budget: hard limits for each answer.
        on_reward_error: as `Aligner` takes it.
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
    on_reward_error: OnRewardError = "fail"
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
        words = {key: value for key, value in given.items() if key.partition(".")[0] not in _OWN}
        ready = words.get("strategy")
        if ready is not None and isinstance(ready, Strategy):
            del words["strategy"]
        asked = read_words(None, words)
        strategy = _strategy(asked, ready if isinstance(ready, Strategy) else None)
        policy = given.get("policy", POLICY)
        reward = given["reward"] if "reward" in given else default_reward(policy)
        if needs_reward(strategy) and is_none(reward):
            raise ConfigError(
                f"{type(strategy).__name__} needs a reward: add reward=..., a model id or path, or "
                "the address of a vLLM pooling server"
            )
        return cls(
            policy=policy,
            reward=reward,
            strategy=strategy,
            seed=asked.seed or 0,
            budget=asked.within(None) if asked.budget else None,
            on_reward_error=asked.on_reward_error or "fail",
            engine_args=_table("engine_args", given),
            reward_args=_table("reward_args", given),
            journal=given.get("journal"),
            max_gen_toks=convert("max_gen_toks", given.get("max_gen_toks", 256), int),
        )

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
            on_reward_error=self.on_reward_error,
        )


def _table(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """A table, given whole or by dotted names."""
    whole = given.get(name) or {}
    if isinstance(whole, str):
        whole = guess(whole)
    if not isinstance(whole, Mapping):
        raise ConfigError(f"{name}={show(whole)}: give {name}.NAME=VALUE, or a table")
    dotted = {
        key.partition(".")[2]: value for key, value in given.items() if key.startswith(f"{name}.")
    }
    return {
        key: guess(value) if isinstance(value, str) else value
        for key, value in {**whole, **dotted}.items()
    }


def _strategy(asked: Specification, ready: Strategy | None) -> Strategy:
    if ready is not None:
        if asked.settings:
            raise ConfigError(
                f"{show(dict(asked.settings))}: the strategy is given ready-made; set them where "
                "it is made"
            )
        return ready
    for setting in asked.given():
        if setting.rpartition(".")[2] == "max_tokens" and "segmenter" not in setting:
            raise ConfigError(
                f"{setting}: the length of an answer is the task's max_gen_toks; change it by "
                "--gen_kwargs max_gen_toks=..., or by the model argument max_gen_toks=... for "
                "tasks that have none"
            )
    try:
        return (
            asked.strategy()
            if asked.name
            else Specification(name="best_of", settings=asked.settings).strategy()
        )
    except ConfigError as error:
        if "has no parameter" not in str(error):
            raise
        own = ", ".join(one.name for one in fields(Arguments))
        raise ConfigError(f"{error}. Beside the strategy's settings there are {own}") from error

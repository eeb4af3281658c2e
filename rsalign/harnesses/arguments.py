"""Parses ``--model_args``: an aligner's own arguments; all other names set the strategy."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from rsalign.aligner import Aligner
from rsalign.core.budget import Budget
from rsalign.core.capabilities import needs_reward
from rsalign.core.errors import ConfigError
from rsalign.core.parts import check_part_names
from rsalign.core.protocols import Strategy
from rsalign.core.text.chat_options import NO_CHAT_OPTIONS, ChatOptions
from rsalign.core.text.reasoning import Reasoning
from rsalign.embedded import POLICY
from rsalign.words.messages import guess, show
from rsalign.words.named_parts import read_part_words
from rsalign.words.parts import default_reward, is_none, reasoning_from
from rsalign.words.read import OnRewardError, Specification, read_words
from rsalign.words.values import convert

_TABLES = ("engine_args", "reward_args", "chat_options")
"""Arguments that are mappings: ``engine_args.max_model_len=512`` sets one entry."""
_OWN = ("policy", "reward", *_TABLES, "journal", "max_gen_toks", "reasoning_parser", "parts")
"""Arguments that are read here and not by `rsalign.words.read`."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of an aligner, checked before an engine starts.

    Attributes:
        policy: model id, path or server address, or any other policy that `Aligner` accepts.
        reward: likewise.
        strategy: the strategy; its `max_tokens` is replaced by the task's.
        seed: root of all random seeds.
        budget: hard limits for each response.
        on_reward_error: see `Aligner`.
        engine_args: arguments of the policy's engine.
        reward_args: arguments of the reward's engine.
        journal: path of the journal, if any.
        max_gen_toks: greatest length of a response, if the task does not set it.
        chat_options: how conversations are rendered, as
            ``chat_options.chat_template_kwargs.enable_thinking=false``.
        reasoning_parser: of a reasoning model, see `Aligner`.
        parts: further models and judges, as ``parts.judge=pairwise_judge``.

    Example:
        >>> arguments = Arguments.read({"strategy": "best_of", "n": "4"})
        >>> arguments.strategy.n
        4
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
    chat_options: ChatOptions = NO_CHAT_OPTIONS
    reasoning_parser: Reasoning | None = None
    parts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "Arguments":
        """Parses ``policy=...``, ``strategy=...``, ``budget.seconds=...`` and strategy settings.

        The default policy is the embedded one. Only the embedded policy has a default reward.

        Raises:
            ConfigError: if an argument is unknown or invalid, or a needed reward is missing.
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
        parts = read_part_words(_words_of("parts", given))
        check_part_names(strategy, parts, refuses_unused=True)
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
            chat_options=ChatOptions.read(_table("chat_options", given)),
            reasoning_parser=reasoning_from(given.get("reasoning_parser")),
            parts=parts,
        )

    def aligner(self) -> Aligner:
        """Creates the aligner, which starts the engines."""
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
            chat_options=self.chat_options,
            reasoning_parser=self.reasoning_parser,
            parts=self.parts,
        )


def _table(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping that was given as a whole, by dotted names, or both; what texts mean is guessed."""
    return {
        key: guess(value) if isinstance(value, str) else value
        for key, value in _words_of(name, given).items()
    }


def _words_of(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The same, as it was given."""
    whole = given.get(name) or {}
    if isinstance(whole, str):
        whole = guess(whole)
    if not isinstance(whole, Mapping):
        raise ConfigError(f"{name}={show(whole)}: give {name}.NAME=VALUE, or a table")
    dotted = {
        key.partition(".")[2]: value for key, value in given.items() if key.startswith(f"{name}.")
    }
    return {**whole, **dotted}


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

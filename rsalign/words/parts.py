"""Policies, rewards and strategies from whatever names them, the same at every door.

A policy or a reward is given as an object, as the name of a class with settings
(``"density_ratio"``, see `rsalign.words.registry`), or as any other text that
`rsalign.words.models` reads: a model, a server, or code of the user's own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from rsalign.core.errors import ConfigError
from rsalign.core.protocols import Policy, Reward, Strategy
from rsalign.core.text.reasoning import Reasoning
from rsalign.core.types import Prompt, Response
from rsalign.core.wrapper import Wrapper
from rsalign.embedded import REWARD
from rsalign.rewards.parts import close_all
from rsalign.words.build import NAME, build_strategy, construct, start_part
from rsalign.words.length import with_max_tokens
from rsalign.words.messages import guess, show
from rsalign.words.models import (
    POLICIES,
    REWARDS,
    make_policy,
    make_reward,
    model_from,
    read_part,
    with_reasoning,
)
from rsalign.words.read import Specification, read_object
from rsalign.words.registry import KINDS, check_spelling

if TYPE_CHECKING:
    from vllm import LLM, AsyncLLMEngine

__all__ = [
    "POLICIES",
    "REWARDS",
    "EngineArguments",
    "PolicyLike",
    "ReasoningLike",
    "RewardLike",
    "StrategyLike",
    "build_strategy",
    "default_reward",
    "is_none",
    "model_from",
    "policy_from",
    "read_part",
    "reasoning_from",
    "reward_from",
    "strategy_from",
    "strategy_of",
]

PolicyLike: TypeAlias = "Policy | str | Sequence[str] | Mapping[str, Any] | LLM | AsyncLLMEngine"
"""A policy, or what names one (see `policy_from`)."""
RewardLike: TypeAlias = (
    "Reward | str | Sequence[str] | Mapping[str, Any] | LLM | AsyncLLMEngine"
    " | Callable[[str, str], float | None]"
)
"""A reward, or what names one (see `reward_from`)."""
EngineArguments: TypeAlias = Mapping[str, object]
"""Arguments by name for what is started or opened: those of `vllm.EngineArgs`
(``{"max_model_len": 4096}``) for a model, those of `connect` for the address of a server, those of
the class or function for ``"module:name"``."""
StrategyLike: TypeAlias = Strategy | str | Mapping[str, Any]
"""A strategy, or what names one (see `strategy_from`)."""

ReasoningLike: TypeAlias = "str | Mapping[str, Any] | Reasoning"
"""A `Reasoning`, the name of its parser, or an object of its settings."""

_NONE = ("", "none", "null")


def policy_from(
    given: Any,
    engine_args: Mapping[str, Any],
    reasoning: Reasoning | None = None,
    *,
    lora: str | None = None,
) -> Policy:
    """A policy from whatever names it.

    Args:
        given: ``"embedded"`` or ``"embedded/strong"``; a model id or path, which vLLM starts; the
            address of an OpenAI-compatible server, or several in a list or with commas between
            them; ``"module:name"`` of a `Policy`, or of a class or function that makes one; a
            running `vllm.LLM` or `AsyncLLM`; a `Policy`; or an object of settings,
            ``{"name": "vllm", "model": ...}``.
        engine_args: for vLLM's engine, the connection, or the class or function.
        reasoning: how the text of responses is divided into thought and answer; None: as the policy
            itself does, such as by the parser that its engine was started with.
        lora: the adapter that draws: its path or id where vLLM runs here (a running engine, too),
            its served name behind a server.

    Raises:
        ConfigError: if it is none of these, or arguments are given for what exists already.
    """
    if lora is not None:
        engine_args = {**engine_args, "lora": lora}
    name, settings = _named_part("policy", given, engine_args)
    if name is None:
        return make_policy(given, engine_args, reasoning)
    policy, _ = start_part("policy", name, settings)
    try:
        return with_reasoning(policy, reasoning)
    except BaseException:
        close_all((policy,))
        raise


def reward_from(
    given: Any, reward_args: Mapping[str, Any], policy: Callable[[], Any] | None = None
) -> Reward | None:
    """A reward from whatever names it.

    Args:
        given: ``"embedded"``; a model id or path, which vLLM's pooling runner starts; the address
            of a vLLM pooling server, or several in a list or with commas between them;
            ``"module:name"`` of a function, of a `Reward`, or of a class of one; a pooling
            `vllm.LLM` or `AsyncLLM`; a `Reward`; a function (prompt_text, response_text) -> float;
            the name of a class of rewards, such as ``"density_ratio"``; or an object of settings,
            ``{"name": "density_ratio", "numerator": ...}``, also as JSON text. None, ``"none"`` or
            ``""``: there is no reward.
        reward_args: for vLLM's engine, the connection, `FunctionReward`, or the class.
        policy: returns the policy that draws the answers. It is called only for a reward that needs
            that policy: its text, or its log-probabilities where settings say ``policy``. None: the
            policy is not known here.

    Returns:
        The reward. Closing it also closes the engines that were started for its parts.

    Raises:
        ConfigError: if it is none of these, or arguments are given for what exists already.

    Example:
        >>> reward_from("capped", {"reward": "scaled", "reward.reward": "rsalign.testing:ToyReward",
        ...     "reward.scale": "2", "cap": "1.5"}).cap
        1.5
    """
    if is_none(given):
        return None
    name, settings = _named_part("reward", given, reward_args)
    started: tuple[Any, ...] = ()
    if name is None:
        reward: Any = make_reward(given, reward_args)
    else:
        reward, started = start_part("reward", name, settings, policy=policy)
    if not isinstance(reward, Reward):
        close_all((reward, *started))
        raise ConfigError(
            f"{type(reward).__name__} judges steps and not answers: make it the reward of `steps`, "
            'as in {"name": "steps", "reward": ...}'
        )
    return _WithEngines(reward, started) if started else reward


def reasoning_from(given: Any) -> Reasoning | None:
    """A `Reasoning` from the name of a parser or an object of settings, ``{"parser": ...}``.

    ``auto`` and an empty text are None: as the policy does by itself. ``none`` divides nothing.

    Raises:
        ConfigError: if it is neither.

    Example:
        >>> reasoning_from({"parser": "qwen3", "keep": "true"})
        Reasoning(parser='qwen3', keep=True, judge_thought=True)
    """
    if given is None or isinstance(given, Reasoning):
        return given
    if isinstance(given, str) and given in ("auto", ""):
        return None
    if isinstance(given, str) and given.lstrip()[:1] == "{":
        given = guess(given)
    if isinstance(given, Mapping):
        return construct(Reasoning, given)  # type: ignore[no-any-return]
    return Reasoning.of(given)


def strategy_from(given: Any) -> Strategy:
    """A strategy from a name, ``module:name`` of one's own, an object of settings, or a strategy.

    Raises:
        ConfigError: if it is none of these.

    Example:
        >>> strategy_from({"name": "plain", "max_tokens": 8})
        Plain(max_tokens=8, measured=False)
    """
    if isinstance(given, str | Mapping):
        asked = read_object(given)
        for word in asked.given():
            if word not in asked.settings and word != "max_tokens":
                raise ConfigError(f"strategy={show(given)}: {word} is an argument of its own")
        return strategy_of(asked)
    if isinstance(given, Strategy) and not isinstance(given, type):
        return given
    raise ConfigError(
        f"strategy={show(given)}: give an instance, such as BestOf(n=8), or a name, such as "
        "'best_of'; what it is must have `async def sample(prompt, run)`"
    )


def strategy_of(asked: Specification, default: Strategy | None = None) -> Strategy:
    """A specified strategy, bounded by the length that is specified with it.

    Args:
        asked: the specification; the caller applies its budget, seed and so on.
        default: as in `build_strategy`.

    Raises:
        ConfigError: as `build_strategy`.
    """
    strategy = asked.strategy(default)
    return strategy if asked.max_tokens is None else with_max_tokens(strategy, asked.max_tokens)


def default_reward(policy: Any) -> Any:
    """The reward of a command that names none: the embedded one for the embedded policies."""
    embedded = isinstance(policy, str) and (policy in POLICIES or policy in POLICIES.values())
    return REWARD if embedded else None


def is_none(given: Any) -> bool:
    """Whether this names no reward."""
    return given is None or (isinstance(given, str) and given.strip().lower() in _NONE)


@dataclass(frozen=True)
class _WithEngines(Wrapper):
    """A reward and the engines that were started for its parts, which close with it.

    A reward of several models leaves models open that it was given; here nobody else has them.
    """

    wrapped_as: ClassVar[str] = "reward"

    reward: Reward
    engines: tuple[Any, ...]

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The reward's value."""
        return await self.reward.score(prompt, response)

    def close(self) -> None:
        """Closes the reward and the engines, even if one of them fails."""
        close_all((*self.engines, self.reward))


def _named_part(
    kind: str, given: Any, arguments: Mapping[str, Any]
) -> tuple[str | None, Mapping[str, Any]]:
    """The name and settings of a registered class; no name if `given` is anything else."""
    if isinstance(given, str) and given.lstrip()[:1] == "{":
        given = guess(given)
    if isinstance(given, Mapping):
        settings = {key: value for key, value in given.items() if key != NAME}
        name = given.get(NAME)
        if not isinstance(name, str):
            raise ConfigError(f"{kind}={show(given)}: an object needs 'name', the {kind}'s class")
        return name, {**settings, **arguments}
    if isinstance(given, str):
        if given.strip() in KINDS[kind].known:
            return given.strip(), arguments
        check_spelling(KINDS[kind], given.strip())
    return None, arguments

"""Policies and rewards of a sweep: started once in a process and shared by all of its jobs.

Starting vLLM takes longer than many jobs do, so that two jobs that name the same model and engine
arguments get the same engine, under their own sampling.
"""

import atexit
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, TypeVar, cast

from eval.graders.sentiment import Polarity, SentimentReward, Weights
from rsalign import ConfigError
from rsalign.core.named_sampling import named_sampling
from rsalign.core.parts import part_types
from rsalign.core.protocols import Policy, Reward, Strategy
from rsalign.core.text.chat_options import ChatOptions
from rsalign.core.types import Sampling
from rsalign.policies.vllm_server import VllmServerPolicy
from rsalign.rewards import FunctionReward, RemoteReward
from rsalign.words.named_parts import start_parts
from rsalign.words.parts import policy_from, reasoning_from, reward_from, strategy_of
from rsalign.words.read import read_words

logger = logging.getLogger(__name__)

P = TypeVar("P")

_started: dict[str, Any] = {}


def vllm_policy(
    model: str,
    sampling: Sampling | Literal["model"] | None = None,
    engine_args: Mapping[str, Any] | None = None,
    chat_options: Mapping[str, Any] | None = None,
    reasoning_parser: str | Mapping[str, Any] | None = None,
) -> Policy:
    """A policy from whatever names one: a model in vLLM, unless it says something else.

    Args:
        model: Hugging Face id, path, ``embedded/policy``, ``embedded/strong``, an address, or
            ``module:name`` of one's own (`rsalign.words.parts.policy_from`).
        sampling: the law; default: temperature 1 without truncation. ``model`` is what the model's
            authors recommend (its ``generation_config.json``).
        engine_args: for vLLM's `EngineArgs`, the connection or the class.
        chat_options: how conversations are rendered (`ChatOptions.read`); the aligner of the job
            takes them, and here they are only checked.
        reasoning_parser: of a reasoning model, see `Aligner`.

    Raises:
        ConfigError: if the model is missing or refused, or its law is fixed and another is asked
            for.
    """
    ChatOptions.read(chat_options)
    given, reasoning = dict(engine_args or {}), reasoning_from(reasoning_parser)
    key = ("policy", model, given, str(reasoning))
    policy = _once(key, lambda: policy_from(model, given, reasoning))
    law = named_sampling(policy, sampling or Sampling())
    if hasattr(policy, "with_sampling"):
        return policy.with_sampling(law)  # type: ignore[no-any-return]
    if law != Sampling():
        raise ConfigError(
            f"policy {model!r} has no with_sampling(): its law is fixed, so leave out sampling"
        )
    return policy


def server_policy(
    addresses: tuple[str, ...] | str,
    model: str | None = None,
    sampling: Sampling | Literal["model"] | None = None,
    chat_options: Mapping[str, Any] | None = None,
    reasoning_parser: str | Mapping[str, Any] | None = None,
) -> VllmServerPolicy:
    """A model behind running OpenAI-compatible servers (`VllmServerPolicy.connect`).

    `chat_options` and `reasoning_parser` are those of `vllm_policy`.
    """
    ChatOptions.read(chat_options)
    reasoning = reasoning_from(reasoning_parser)
    where = [addresses] if isinstance(addresses, str) else list(addresses)
    policy = _once(
        ("server", where, model, str(reasoning)),
        lambda: VllmServerPolicy.connect(where, model=model, reasoning=reasoning),
    )
    return policy.with_sampling(named_sampling(policy, sampling or Sampling()))


def vllm_reward(model: str, engine_args: Mapping[str, Any] | None = None) -> Reward:
    """A reward from whatever names one: a classifier in vLLM, unless it says something else.

    Args:
        model: Hugging Face id, path, ``embedded/reward``, an address, or ``module:name`` of a
            function or a reward of one's own (`rsalign.words.parts.reward_from`).
        engine_args: for vLLM's `EngineArgs`, the connection, `FunctionReward` or the class.

    Raises:
        ConfigError: if there is no such reward.
    """
    given = dict(engine_args or {})
    reward = _once(("reward", model, given), lambda: reward_from(model, given))
    if reward is None:
        raise ConfigError(f"reward.model={model!r}: for no reward say reward=none")
    return reward


def named_strategy(
    name: str, settings: Mapping[str, Any] | None = None, max_tokens: int | None = None
) -> Strategy:
    """A strategy by name, or of one's own, with settings as in ``rsalign generate --set``.

    Args:
        name: such as ``best_of``, or ``module:name`` of a class or an instance of one's own.
        settings: its parameters; an object, or a dot, reaches into a part.
        max_tokens: greatest length of an answer.

    Raises:
        ConfigError: if there is no such strategy, part or parameter.
    """
    asked = read_words(name, settings or {})
    for word in asked.given():
        if word not in asked.settings:
            raise ConfigError(f"strategy.settings.{word}: a sweep has a setting of its own for it")
    return strategy_of(replace(asked, max_tokens=max_tokens))


def no_strategy() -> None:
    """None, for tasks that give the answers themselves (`eval.choices`)."""
    return


def server_reward(address: str, model: str | None = None) -> RemoteReward:
    """A classifier behind a running vLLM pooling server (`RemoteReward.connect`)."""
    return _once(
        ("reward server", address, model), lambda: RemoteReward.connect(address, model=model)
    )


def named_reward(
    name: str, settings: Mapping[str, Any] | None = None, policy: Policy | None = None
) -> Reward:
    """A class of rewards by name, as ``rsalign generate --reward NAME --reward-arg ...``.

    Args:
        name: such as ``density_ratio``.
        settings: its parameters; an object, or a dot, reaches into a part.
        policy: draws the answers; a part of the reward may be this policy too.

    Raises:
        ConfigError: if there is no such reward, part or parameter.
    """
    given = dict(settings or {})
    key = ("named reward", name, given, str(policy))
    reward = _once(key, lambda: reward_from({"name": name} | given, {}, lambda: policy))
    assert reward is not None
    return reward


def sentiment_reward(polarity: Polarity, weights: Weights) -> FunctionReward:
    """The log-odds of a polarity by a classifier of words (`eval.graders.sentiment`)."""
    return FunctionReward(SentimentReward(polarity=polarity, weights=weights))


def no_reward() -> None:
    """None, for strategies that need no reward."""
    return


def named_parts(
    given: Mapping[str, Any], strategy: Strategy, policy: Policy | None = None
) -> Mapping[str, Any]:
    """The further models and judges of a job (`rsalign.words.named_parts.start_parts`).

    Args:
        given: by name, as ``rsalign generate --part NAME=...`` has them.
        strategy: that needs them.
        policy: draws the answers; a part may use it by the name ``policy``.

    Raises:
        ConfigError: if one cannot be made.
    """
    if not given:
        return {}
    wanted = part_types(strategy)
    key = ("parts", dict(given), str(wanted), str(policy))
    return _once(key, lambda: start_parts(given, strategy, lambda: policy)).parts


def close() -> None:
    """Stops everything that was started here. Idempotent; done at exit."""
    while _started:
        _, part = _started.popitem()
        if hasattr(part, "close"):
            part.close()


def _once(key: tuple[Any, ...], start: Callable[[], P]) -> P:
    name = json.dumps(key, sort_keys=True, default=str)
    if name not in _started:
        if not _started:
            atexit.register(close)
        try:
            _started[name] = start()
        except ConfigError as error:
            raise ConfigError(f"{key[0]} {key[1]!r}: {error}") from error
        logger.info("started the %s %s", *key[:2])
    return cast(P, _started[name])

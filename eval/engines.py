"""Policies and rewards of a sweep: started once in a process and shared by all of its jobs.

Starting vLLM takes longer than many jobs do, so that two jobs that name the same model and engine
arguments get the same engine, under their own sampling.
"""

import atexit
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from eval.graders.sentiment import Polarity, SentimentReward, Weights
from rsalign import ConfigError
from rsalign.embedded import POLICY, REWARD, STRONG
from rsalign.policies.openai import OpenAIPolicy
from rsalign.policies.vllm import VllmPolicy
from rsalign.rewards import FunctionReward, RemoteReward, VllmReward
from rsalign.types import Sampling

logger = logging.getLogger(__name__)

P = TypeVar("P")

_EMBEDDED = {"embedded/policy": POLICY, "embedded/strong": STRONG, "embedded/reward": REWARD}
_started: dict[str, Any] = {}


def vllm_policy(
    model: str, sampling: Sampling | None = None, engine_args: Mapping[str, Any] | None = None
) -> VllmPolicy:
    """A model in vLLM.

    Args:
        model: Hugging Face id, path, or ``embedded/policy``, ``embedded/strong``.
        sampling: the law; default: the model's own.
        engine_args: for vLLM's `EngineArgs`.

    Raises:
        ConfigError: if the model is missing or refused.
    """
    given = dict(engine_args or {})
    policy = _once(
        ("policy", model, given), lambda: VllmPolicy.start(_EMBEDDED.get(model, model), **given)
    )
    return policy.with_sampling(sampling or Sampling())


def server_policy(
    addresses: tuple[str, ...] | str, model: str | None = None, sampling: Sampling | None = None
) -> OpenAIPolicy:
    """A model behind running OpenAI-compatible servers (`OpenAIPolicy.connect`)."""
    where = [addresses] if isinstance(addresses, str) else list(addresses)
    policy = _once(("server", where, model), lambda: OpenAIPolicy.connect(where, model=model))
    return policy.with_sampling(sampling or Sampling())


def vllm_reward(model: str, engine_args: Mapping[str, Any] | None = None) -> VllmReward:
    """A sequence classifier in vLLM's pooling runner.

    Args:
        model: Hugging Face id, path, or ``embedded/reward``.
        engine_args: for vLLM's `EngineArgs`.
    """
    given = dict(engine_args or {})
    return _once(
        ("reward", model, given), lambda: VllmReward.start(_EMBEDDED.get(model, model), **given)
    )


def server_reward(address: str, model: str | None = None) -> RemoteReward:
    """A classifier behind a running vLLM pooling server (`RemoteReward.connect`)."""
    return _once(
        ("reward server", address, model), lambda: RemoteReward.connect(address, model=model)
    )


def sentiment_reward(polarity: Polarity, weights: Weights) -> FunctionReward:
    """The log-odds of a polarity by a classifier of words (`eval.graders.sentiment`)."""
    return FunctionReward(SentimentReward(polarity=polarity, weights=weights))


def no_reward() -> None:
    """None, for strategies that need no reward."""
    return


def close() -> None:
    """Stops everything that was started here. Idempotent; done at exit."""
    while _started:
        _, part = _started.popitem()
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

"""Turns what a user names (a path, an address, an engine, a function) into policy and reward."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from rsalign.engines.remote import is_address
from rsalign.errors import ConfigError
from rsalign.protocols import Policy, Reward

T = TypeVar("T")


def policy_from(given: Any, engine_args: Mapping[str, Any]) -> Policy:
    """A policy from a model id or path, addresses of servers, a running engine, or a policy.

    Raises:
        ConfigError: if it is none of these, or engine arguments are given for what runs already.
    """
    from rsalign.policies.openai import OpenAIPolicy
    from rsalign.policies.vllm import VllmPolicy

    if _is_served(given):
        return _connected(OpenAIPolicy.connect, given, engine_args, "engine_args")
    if isinstance(given, str):
        return VllmPolicy.start(given, **engine_args)
    if engine_args:
        raise ConfigError(
            f"engine_args={dict(engine_args)!r} cannot be applied to a {type(given).__name__} "
            "that exists already: set them where it is made"
        )
    if _is_vllm(given):
        return VllmPolicy.adopt(given)
    if isinstance(given, Policy):
        return given
    raise ConfigError(
        f"policy is a {type(given).__name__}: give a model id or path, the address of a server, a "
        "running vllm.LLM or AsyncLLM, or a Policy (extend and text)"
    )


def reward_from(given: Any, reward_args: Mapping[str, Any]) -> Reward | None:
    """A reward from a model id or path, addresses, a pooling engine, a reward or a function.

    Raises:
        ConfigError: if it is none of these.
    """
    from rsalign.policies.vllm import adopted
    from rsalign.rewards.function import FunctionReward
    from rsalign.rewards.remote import RemoteReward
    from rsalign.rewards.vllm import VllmReward

    if given is None:
        return None
    if _is_served(given):
        return _connected(RemoteReward.connect, given, reward_args, "reward_args")
    if isinstance(given, str):
        return VllmReward.start(given, **reward_args)
    if _is_vllm(given):
        return VllmReward(adopted(given))
    if isinstance(given, Reward):
        return given
    if isinstance(given, Callable):  # type: ignore[arg-type]
        return FunctionReward(given, **reward_args)
    raise ConfigError(
        f"reward is a {type(given).__name__}: give a model id or path, the address of a server, a "
        "Reward (score), or a callable (prompt_text, response_text) -> float"
    )


def _is_vllm(given: Any) -> bool:
    # by name: a vllm.LLM also has a method `score`, and vLLM need not be installed
    return type(given).__module__.split(".")[0] == "vllm"


def _is_served(given: Any) -> bool:
    """Whether this is an address or a list with one; what is wrong in a list is said later."""
    return any(map(is_address, given if isinstance(given, list | tuple) else [given]))


def _connected(connect: Callable[..., T], given: Any, arguments: Mapping[str, Any], name: str) -> T:
    try:
        inspect.signature(connect).bind(given, **arguments)
    except TypeError as wrong:
        known = ", ".join(list(inspect.signature(connect).parameters)[1:])
        raise ConfigError(
            f"{name}={dict(arguments)!r}: {wrong}; for a server there are {known}, and its engine "
            "is set where it is started"
        ) from wrong
    return connect(given, **arguments)

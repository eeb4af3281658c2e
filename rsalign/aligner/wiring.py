"""Turns what a user names (a path, an address, an engine, a function) into policy and reward."""

from collections.abc import Callable, Mapping
from typing import Any

from rsalign.errors import ConfigError
from rsalign.protocols import Policy, Reward


def policy_from(given: Any, engine_args: Mapping[str, Any]) -> Policy:
    """A policy from a model id or path, a running engine, or a policy.

    Raises:
        ConfigError: if it is none of these, or engine arguments are given for what runs already.
    """
    from rsalign.policies.vllm import VllmPolicy

    if isinstance(given, str):
        _refuse_address(given, "policy")
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
        f"policy is a {type(given).__name__}: give a model id or path, a running vllm.LLM or "
        "AsyncLLM, or a Policy (extend and text)"
    )


def reward_from(given: Any, reward_args: Mapping[str, Any]) -> Reward | None:
    """A reward from a model id or path, a pooling engine, a reward or a function; or None.

    Raises:
        ConfigError: if it is none of these.
    """
    from rsalign.policies.vllm import adopted
    from rsalign.rewards.function import FunctionReward
    from rsalign.rewards.vllm import VllmReward

    if given is None:
        return None
    if isinstance(given, str):
        _refuse_address(given, "reward")
        return VllmReward.start(given, **reward_args)
    if _is_vllm(given):
        return VllmReward(adopted(given))
    if isinstance(given, Reward):
        return given
    if isinstance(given, Callable):  # type: ignore[arg-type]
        return FunctionReward(given, **reward_args)
    raise ConfigError(
        f"reward is a {type(given).__name__}: give a model id or path, a Reward (score), or a "
        "callable (prompt_text, response_text) -> float"
    )


def _is_vllm(given: Any) -> bool:
    # by name: a vllm.LLM also has a method `score`, and vLLM need not be installed
    return type(given).__module__.split(".")[0] == "vllm"


def _refuse_address(given: str, what: str) -> None:
    if given.startswith(("http://", "https://")):
        raise ConfigError(f"{what}={given!r}: servers are not supported yet; give a model path")

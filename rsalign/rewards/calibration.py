"""Rescales a reward by the rewards of the policy's own samples.

Raw scores of reward models have an arbitrary zero and unit. After calibration, one value of `beta`,
of a weight or of a threshold means the same for different reward models: sample responses from the
policy, score them, and scale the reward by their spread.
"""

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

from rsalign.chains.beta_rules import greatest_beta
from rsalign.core.checks import above, at_least, check_float, check_int, check_value, quote
from rsalign.core.errors import ConfigError
from rsalign.core.key import Key
from rsalign.core.protocols import Policy, Reward
from rsalign.core.run import Run
from rsalign.core.tasks import concurrently
from rsalign.core.types import Prompt
from rsalign.rewards.parts import A_REWARD
from rsalign.rewards.wrappers import Scaled
from rsalign.selectors.estimators import mean_and_sd

Method: TypeAlias = Literal["z_score", "temperature"]
"""What calibration equalises: the standard deviation, or the effective sample size."""


async def own_rewards(
    policy: Policy, reward: Reward, prompt: Prompt, *, num_draws: int, max_tokens: int, key: Key
) -> tuple[float, ...]:
    """Rewards of independent complete responses from the policy, ``(num_draws,)``.

    Responses that a constraint excludes have no reward and are left out.

    All responses are requested concurrently.

    Args:
        policy: samples the responses.
        reward: scores them.
        prompt: the prompt to respond to.
        num_draws: number of responses, at least 1. With the same key, a larger number keeps the
            responses of a smaller one and adds to them.
        max_tokens: greatest length of each response.
        key: address that the random seeds are derived from; use one that no strategy uses.

    Raises:
        ConfigError: if `num_draws` or `max_tokens` is not at least 1, or no response is allowed.
        RewardError: if the reward failed or is not finite.

    Example:
        >>> import asyncio
        >>> from rsalign import Key, Message, Prompt
        >>> from rsalign.testing import ToyPolicy, ToyReward
        >>> prompt = Prompt((Message("user", "1"),), (1,))
        >>> rewards = asyncio.run(
        ...     own_rewards(
        ...         ToyPolicy(), ToyReward(), prompt, num_draws=4, max_tokens=3, key=Key(0)
        ...     )
        ... )
        >>> len(rewards)
        4
    """
    num_draws = check_int("own_rewards", "num_draws", num_draws, at_least(1))
    max_tokens = check_int("own_rewards", "max_tokens", max_tokens, at_least(1))
    run = Run(policy, reward, key)
    drafts = await concurrently(
        run.at("candidate", i).draft(prompt, (), max_tokens=max_tokens) for i in range(num_draws)
    )
    rewards = tuple(float(draft.reward) for draft in drafts if not draft.excluded)
    if not rewards:
        raise ConfigError(
            f"none of {num_draws} responses drawn to {quote(prompt.text)} is allowed, so that none "
            "has a reward: draw more, or loosen the constraint"
        )
    return rewards


async def calibrate(
    reward: Reward,
    prompts: Prompt | Sequence[Prompt],
    *,
    policy: Policy,
    num_draws: int,
    max_tokens: int,
    key: Key,
    method: Method = "z_score",
    ess_fraction: float = 0.5,
) -> Scaled:
    """Samples responses to each prompt and scales the reward by them; see `calibrated_on`.

    Args:
        reward: the reward to scale.
        prompts: one prompt, or several that represent those the reward will be used on.
        policy: samples the responses.
        num_draws: number of responses to each prompt.
        max_tokens: greatest length of each response.
        key: address that the random seeds are derived from; use one that no strategy uses.
        method: what calibration equalises; see `calibrated_on`.
        ess_fraction: only for ``"temperature"``; see `calibrated_on`.

    Raises:
        ConfigError: as `calibrated_on`.
        RewardError: if the reward failed or is not finite.
    """
    several = (prompts,) if isinstance(prompts, Prompt) else tuple(prompts)
    pools = await concurrently(
        own_rewards(
            policy,
            reward,
            prompt,
            num_draws=num_draws,
            max_tokens=max_tokens,
            key=key.child("prompt", i),
        )
        for i, prompt in enumerate(several)
    )
    return calibrated_on(reward, *pools, method=method, ess_fraction=ess_fraction)


def calibrated_on(
    reward: Reward,
    *pools: Sequence[float],
    method: Method = "z_score",
    ess_fraction: float = 0.5,
) -> Scaled:
    """The reward, scaled so that the given rewards of samples have a standard spread.

    ``"z_score"``: ``(reward - mean) / sd``. The samples then have mean 0 and standard deviation 1
    (the population standard deviation, which divides by their number). With several prompts, the
    mean is over all samples, but deviations are taken from each prompt's own mean, because a
    strategy compares responses to one prompt only.

    ``"temperature"``: ``reward / beta``, where ``beta`` is chosen such that the weights ``w =
    exp(reward / beta)`` of a prompt's samples have an effective sample size ``(sum w)^2 / sum w^2``
    of `ess_fraction` times their number (with several prompts: on average). Then ``beta=1`` means
    the same strength of selection for every reward. ``beta`` is found to a relative error of 1e-9.

    Args:
        reward: the reward to scale.
        *pools: rewards of the policy's samples, one sequence for each prompt, ``(draws,)``.
        method: what calibration equalises.
        ess_fraction: only for ``"temperature"``: below 1, and above the fraction of samples that
            have their prompt's highest reward.

    Raises:
        ConfigError: if no pool has two different rewards, a reward is not finite, or no ``beta``
            gives the requested fraction.

    Example:
        >>> from rsalign.testing import ToyReward
        >>> scaled = calibrated_on(ToyReward(), (1.0, 3.0))
        >>> scaled.scale, scaled.shift
        (1.0, -2.0)
    """
    name = "calibrated_on"
    check_value(name, "reward", reward, Reward, A_REWARD)
    check_value(name, "method", method, Method)
    ess_fraction = check_float(name, "ess_fraction", ess_fraction, above(0.0, below=1.0))
    by_prompt: list[tuple[float, ...]] = [
        check_value(name, "pools", pool, tuple[float, ...]) for pool in pools if len(pool)
    ]
    draws = [draw for pool in by_prompt for draw in pool]
    if all(max(pool) == min(pool) for pool in by_prompt):
        raise ConfigError(
            f"cannot calibrate on the rewards {draws!r}: no two of a prompt's draws differ, so "
            "there is no unit; draw more answers (num_draws, at least 2), at a higher temperature "
            "or to harder prompts, or use a reward that tells them apart"
        )
    if method == "temperature":
        return Scaled(reward, scale=_inverse_beta(by_prompt, ess_fraction))
    mean, _ = mean_and_sd(draws)
    means = [mean_and_sd(pool)[0] for pool in by_prompt]
    deviations = [
        draw - center for pool, center in zip(by_prompt, means, strict=True) for draw in pool
    ]
    sd = math.hypot(*deviations) / math.sqrt(len(draws))
    if not (_is_normal(sd) and _is_normal(1 / sd)):
        raise _no_unit(draws)
    return Scaled(reward, scale=1 / sd, shift=-mean / sd)


def effective_fraction(pool: Sequence[float], scale: float) -> float:
    """``(sum w)^2 / (draws * sum w^2)`` of the weights ``w = exp(scale * reward)``.

    Args:
        pool: rewards of one prompt's draws, ``(draws,)``.
        scale: 1 / beta, at least 0.
    """
    best = max(pool)
    weights = [math.exp(scale * (reward - best)) for reward in pool]
    return math.fsum(weights) ** 2 / (len(pool) * math.fsum(w * w for w in weights))


def _is_normal(value: float) -> bool:
    return 1e-300 < value < 1e300


def _no_unit(draws: Sequence[float]) -> ConfigError:
    return ConfigError(
        f"cannot calibrate on the rewards {quote(draws)}: their differences are beyond what a "
        "float can be divided by (1e-300 to 1e300); bring the reward to an ordinary scale first"
    )


def _inverse_beta(pools: Sequence[tuple[float, ...]], wanted: float) -> float:
    """The scale 1 / beta at which the pools' mean effective fraction is `wanted`."""
    least = math.fsum(pool.count(max(pool)) / len(pool) for pool in pools) / len(pools)
    if not least < wanted < 1:
        raise ConfigError(
            f"calibrated_on(ess_fraction={wanted!r}): give a fraction above {least:.3g} and below "
            f"1, or draw more answers (num_draws): of these draws a fraction of {least:.3g} have "
            "their prompt's best reward, and always count in full"
        )
    widest = max(max(pool) - min(pool) for pool in pools)
    gap = min(max(pool) - r for pool in pools for r in pool if r < max(pool))
    if not (_is_normal(widest) and _is_normal(gap)):
        raise _no_unit([draw for pool in pools for draw in pool])

    def excess(beta: float) -> float:
        fractions = (effective_fraction(pool, 1 / beta) for pool in pools)
        return wanted - math.fsum(fractions) / len(pools)

    beta = greatest_beta(pools, excess)
    assert beta is not None  # a fraction below 1 takes rewards that differ
    return 1 / beta

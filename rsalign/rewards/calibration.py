"""A reward in units of the policy's own draws, so that `beta`, weights and thresholds carry over.

Raw rewards of different models differ in zero and unit, and mean nothing by themselves. What the
policy writes of its own gives both: draw, judge, and scale.
"""

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

from rsalign.chains.beta_rules import greatest_beta
from rsalign.core.checks import above, at_least, checked, number, shown, whole
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
"""What is made the same for every reward: the standard deviation, or the effective sample size."""


async def own_rewards(
    policy: Policy, reward: Reward, prompt: Prompt, *, num_draws: int, max_tokens: int, key: Key
) -> tuple[float, ...]:
    """Rewards of independent whole answers of the policy, drawn at once, ``(num_draws,)``.

    Args:
        policy: draws the answers.
        reward: judges them.
        prompt: what is answered.
        num_draws: number of answers, at least 1. With the same key a larger one only adds draws.
        max_tokens: bounds each answer.
        key: the address below which they are drawn; give one that no strategy draws from.

    Raises:
        ConfigError: if `num_draws` is not at least 1.
        RewardError: if a reward failed or is not finite.
    """
    num_draws = whole("own_rewards", "num_draws", num_draws, at_least(1))
    max_tokens = whole("own_rewards", "max_tokens", max_tokens, at_least(1))
    run = Run(policy, reward, key)
    drafts = await concurrently(
        run.at("candidate", i).draft(prompt, (), max_tokens=max_tokens) for i in range(num_draws)
    )
    return tuple(float(draft.reward) for draft in drafts)


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
    """Draws answers to each prompt and scales the reward by them; see `calibrated_on`.

    Args:
        reward: what is scaled.
        prompts: one, or several that stand for those the reward is to be used on.
        policy: draws the answers.
        num_draws: answers for each prompt.
        max_tokens: bounds each answer.
        key: the address below which they are drawn; give one that no strategy draws from.
        method: what is made the same.
        ess_fraction: only for ``"temperature"``.

    Raises:
        ConfigError: as `calibrated_on`.
        RewardError: if a reward failed or is not finite.
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
    """The reward, scaled so that the draws' rewards have a stated spread.

    ``"z_score"``: ``(reward - mean) / sd``. The draws then have mean 0 and standard deviation 1
    (that of the draws themselves: the squares' mean, not the unbiased estimate). For several
    prompts the mean is of all draws and the squares are about each prompt's own mean, because a
    strategy compares answers of one prompt only.

    ``"temperature"``: ``reward / beta``, where weights ``w = exp(reward / beta)`` over a prompt's
    draws have an effective sample size ``(sum w)^2 / sum w^2`` of `ess_fraction` times their number
    (for several prompts: on average). The same ``beta=1`` then means the same pressure, whatever
    the reward's unit. The root is found to 1e-9 of ``beta``.

    Args:
        reward: what is scaled.
        *pools: rewards of the policy's own draws, one sequence for each prompt, ``(draws,)``.
        method: what is made the same.
        ess_fraction: only for ``"temperature"``: below 1, and above the fraction of draws that have
            their prompt's best reward.

    Raises:
        ConfigError: if no pool has two different rewards, a reward is not finite, or the fraction
            cannot be had from these draws.
    """
    name = "calibrated_on"
    checked(name, "reward", reward, Reward, A_REWARD)
    checked(name, "method", method, Method)
    ess_fraction = number(name, "ess_fraction", ess_fraction, above(0.0, below=1.0))
    by_prompt: list[tuple[float, ...]] = [
        checked(name, "pools", pool, tuple[float, ...]) for pool in pools if len(pool)
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
        f"cannot calibrate on the rewards {shown(draws)}: their differences are beyond what a "
        "float can be divided by (1e-300 to 1e300); bring the reward to an ordinary scale first"
    )


def _inverse_beta(pools: Sequence[tuple[float, ...]], wanted: float) -> float:
    """The scale at which the pools' effective fraction is `wanted`, on average."""
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

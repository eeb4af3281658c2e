"""Thresholds: the reward that a partial answer must reach, by its length.

The functions at the end find a target from the rewards of some draws.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from rsalign.core.checks import REWARD, at_least, check_settings, part
from rsalign.selectors.estimators import mean_and_sd

_SCALE = 2.0**-70


class Threshold(Protocol):
    """The reward to reach, as a function of the number of tokens. An immutable value.

    Example:
        >>> from rsalign import Line
        >>> threshold: Threshold = Line(target=2.0)
        >>> threshold.at(8, prompt_reward=0.0, max_tokens=8)
        2.0
    """

    @property
    def needs_prompt_reward(self) -> bool:
        """Whether `at` uses the reward of the empty response, which costs one reward call."""
        ...

    def at(self, num_tokens: int, *, prompt_reward: float, max_tokens: int) -> float:
        """The threshold of a response, in the reward's units.

        Args:
            num_tokens: length of the response, the draft included, 1 .. `max_tokens`.
            prompt_reward: reward of the empty response; any number if it is not needed.
            max_tokens: greatest length of the response.
        """
        ...


@runtime_checkable
class AimedThreshold(Threshold, Protocol):
    """A threshold whose target can be replaced, as `Calibrate` does for each prompt."""

    def with_target(self, target: float) -> Threshold:
        """The same threshold with another target."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Rises linearly from a start value to `target` at the greatest length (CARDS, 2406.16306).

    tau(n) = min(r0 + n (target - r0) / max_tokens, target), where the start value is
    r0 = prompt_weight * r(prompt) + (1 - prompt_weight) * target and r(prompt) the reward of the
    empty response. The paper's alpha is the weight of the *target*, so that
    ``prompt_weight = 1 - alpha``; its value is 0.5.

    Attributes:
        target: reward of a whole answer, in the reward's units.
        prompt_weight: weight of r(prompt) in the start value, 0 to 1. At 0 the threshold is the
            target at every length, and the empty response is not judged.

    Raises:
        ConfigError: if `target` is not finite, or `prompt_weight` not between 0 and 1.

    Example:
        >>> Line(target=4.0).at(2, prompt_reward=0.0, max_tokens=8)
        2.5
    """

    target: float
    prompt_weight: float = 0.5

    def __post_init__(self) -> None:
        weight = at_least(0.0, 1.0, note="it is 1 - alpha of the paper")
        check_settings(self, target=REWARD, prompt_weight=weight)

    @property
    def needs_prompt_reward(self) -> bool:
        """Whether r(prompt) has any weight."""
        return self.prompt_weight > 0

    def at(self, num_tokens: int, *, prompt_reward: float, max_tokens: int) -> float:
        """The threshold at this length, at most `target`."""
        if not self.needs_prompt_reward:
            return self.target
        # scaling by a power of two is exact; differences of the greatest floats, times a number of
        # tokens, then stay finite
        target = self.target * _SCALE
        start = target + self.prompt_weight * (prompt_reward * _SCALE - target)
        here = start + num_tokens * (target - start) / max_tokens
        # if r(prompt) exceeds the target, the line would fall
        return min(here / _SCALE, self.target)

    def with_target(self, target: float) -> "Line":
        """The same line with another target."""
        return replace(self, target=target)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """The same threshold at every length.

    Attributes:
        value: in the reward's units.

    Raises:
        ConfigError: if `value` is not finite.

    Example:
        >>> Constant(value=1.5).at(3, prompt_reward=0.0, max_tokens=8)
        1.5
    """

    value: float

    def __post_init__(self) -> None:
        check_settings(self, value=REWARD)

    @property
    def needs_prompt_reward(self) -> bool:
        """False."""
        return False

    def at(self, num_tokens: int, *, prompt_reward: float, max_tokens: int) -> float:
        """`value`, at every length."""
        return self.value

    def with_target(self, target: float) -> "Constant":
        """A constant threshold at this target."""
        return Constant(value=target)


THRESHOLD = part("a threshold, such as Line(target=1.5)")
"""What a threshold must be where it is a setting, for `check_settings`."""

THRESHOLDS: dict[str, type[Line | Constant]] = {"line": Line, "constant": Constant}
"""Thresholds by their names in settings; any other class is named as ``module:Class``."""


def upper_quantile(rewards: Sequence[float], quantile: float) -> float:
    """The smallest reward such that at least a share of `quantile` of them does not exceed it.

    This is numpy's quantile with ``method="inverted_cdf"``, except that a product quantile * draws
    that rounding has moved to just above a whole number is taken as that number.

    Args:
        rewards: ``(draws,)``, at least one.
        quantile: above 0 and at most 1; at 1 it is the greatest reward.

    Example:
        >>> upper_quantile((3.0, 1.0, 2.0, 5.0), 0.5)
        2.0
    """
    rank = math.ceil(quantile * len(rewards) - 1e-9)
    return sorted(rewards)[max(rank, 1) - 1]


def above_mean(rewards: Sequence[float], num_sds: float) -> float:
    """Mean + `num_sds` * standard deviation of the rewards (the variance divides by their number).

    Args:
        rewards: ``(draws,)``, at least one.
        num_sds: number of standard deviations; may be negative.
    """
    mean, sd = mean_and_sd(rewards)
    return mean + num_sds * sd

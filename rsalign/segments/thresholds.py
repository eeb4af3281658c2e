"""Which reward a partial answer is held to, by its length.

Thresholds are values; what a set of draws tells about a target are functions.

>>> Line(target=4.0).at(2, prompt_reward=0.0, max_tokens=8)
2.5
>>> upper_quantile((3.0, 1.0, 2.0, 5.0), 0.5)
2.0
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from rsalign.core.checks import REWARD, at_least, check_settings
from rsalign.selectors.estimators import mean_and_sd

_SCALE = 2.0**-70


class Threshold(Protocol):
    """A reward to reach, as a function of the number of tokens. A value."""

    @property
    def needs_prompt_reward(self) -> bool:
        """Whether `at` depends on the reward of the prompt alone, which costs a call to have."""
        ...

    def at(self, num_tokens: int, *, prompt_reward: float, max_tokens: int) -> float:
        """The threshold of a response, in the reward's units.

        Args:
            num_tokens: of the response, the draft included, 1 .. `max_tokens`.
            prompt_reward: of the prompt with no response; any number where it is not needed.
            max_tokens: greatest length of the response.
        """
        ...


@runtime_checkable
class AimedThreshold(Threshold, Protocol):
    """A threshold with a target that can be replaced, as `Calibrate` does for each prompt."""

    def with_target(self, target: float) -> Threshold:
        """The same rule for another target."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """From a start value up to `target` at the greatest length: CARDS, arXiv:2406.16306.

    tau(n) = min(r0 + n (target - r0) / max_tokens, target), where the start value is
    r0 = prompt_weight * r(prompt) + (1 - prompt_weight) * target. The paper's alpha weighs the
    *target*, so ``prompt_weight = 1 - alpha``; its alpha is 0.5.

    Attributes:
        target: reward of a whole answer, in the reward's units.
        prompt_weight: of the prompt's own reward in the start value, 0 to 1. At 0 the line is
            flat, and the prompt is not judged.

    Raises:
        ConfigError: if `target` is not finite, or `prompt_weight` not between 0 and 1.
    """

    target: float
    prompt_weight: float = 0.5

    def __post_init__(self) -> None:
        weight = at_least(0.0, 1.0, note="it is 1 - alpha of the paper")
        check_settings(self, target=REWARD, prompt_weight=weight)

    @property
    def needs_prompt_reward(self) -> bool:
        """Unless it has no weight."""
        return self.prompt_weight > 0

    def at(self, num_tokens: int, *, prompt_reward: float, max_tokens: int) -> float:
        """The line at this length, at most `target`."""
        if not self.needs_prompt_reward:
            return self.target
        # scaled by a power of two, which rounds nothing: differences of the greatest floats, times
        # a number of tokens, are then finite
        target = self.target * _SCALE
        start = target + self.prompt_weight * (prompt_reward * _SCALE - target)
        here = start + num_tokens * (target - start) / max_tokens
        # a prompt that is worth more than the target would make the line fall
        return min(here / _SCALE, self.target)

    def with_target(self, target: float) -> "Line":
        """The same line to another target."""
        return replace(self, target=target)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """The same at every length.

    Attributes:
        value: in the reward's units.

    Raises:
        ConfigError: if `value` is not finite.
    """

    value: float

    def __post_init__(self) -> None:
        check_settings(self, value=REWARD)

    @property
    def needs_prompt_reward(self) -> bool:
        """It does not."""
        return False

    def at(self, num_tokens: int, *, prompt_reward: float, max_tokens: int) -> float:
        """`value`."""
        return self.value

    def with_target(self, target: float) -> "Constant":
        """The target at every length."""
        return Constant(value=target)


THRESHOLDS: dict[str, type[Line | Constant]] = {"line": Line, "constant": Constant}
"""What the command line calls them; a class of one's own is named ``module:Class``."""


def upper_quantile(rewards: Sequence[float], quantile: float) -> float:
    """The least of the rewards that a share of at least `quantile` of them does not exceed.

    Args:
        rewards: ``(draws,)``, at least one.
        quantile: above 0 and at most 1; at 1 it is the greatest.
    """
    # a product that is rounded up to just above a whole number does not move the rank
    rank = math.ceil(quantile * len(rewards) - 1e-9)
    return sorted(rewards)[max(rank, 1) - 1]


def above_mean(rewards: Sequence[float], num_sds: float) -> float:
    """Mean + `num_sds` standard deviations of the rewards themselves (divided by their number).

    Args:
        rewards: ``(draws,)``, at least one.
        num_sds: may be negative.
    """
    mean, sd = mean_and_sd(rewards)
    return mean + num_sds * sd

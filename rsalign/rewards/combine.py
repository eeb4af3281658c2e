"""Several rewards as one, and the transformations that make them fit to be added up.

Every class here takes rewards and is one, so they nest. Components are asked at once; what they
cost adds up. A reward that occurs in more than one component is asked once if it is wrapped in
`rsalign.rewards.wrappers.Cached`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rsalign.core.checks import REWARD, check_settings, refused
from rsalign.core.errors import ConfigError
from rsalign.core.protocols import Reward, Scored
from rsalign.core.types import Prompt, Response
from rsalign.rewards.parts import A_REWARD, Composite, ask, ask_all, combined, require_some


@dataclass(frozen=True, slots=True)
class WeightedSum(Composite):
    """``sum_i weights[i] * rewards[i]``.

    Components are comparable only on one scale: see `rsalign.rewards.calibration`.

    Attributes:
        rewards: the components, ``(components,)``.
        weights: any finite numbers, ``(components,)``; they need not sum to one.

    Raises:
        ConfigError: if there is no component, one is no reward, or the weights do not fit.
    """

    rewards: Sequence[Reward]
    weights: Sequence[float]

    def __post_init__(self) -> None:
        check_settings(self, rewards=A_REWARD)
        _require_one_each(self, self.rewards, "weights", self.weights)

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The weighted sum of what the components say."""
        return await _weighted(self.rewards, self.weights, prompt, response)


@dataclass(frozen=True, slots=True)
class Direction(Composite):
    """``sum_i v_i * rewards[i]`` with the unit vector ``v = direction / |direction|``.

    A preference between objectives as a direction in reward space: only the trade-off is chosen,
    never how strong the reward is, so that one ``beta`` serves all directions. For two objectives
    ``(cos a, sin a)`` turns from the first to the second. Haoxiang Wang et al. 2024,
    arXiv:2402.18571, who train on it; components should be on one scale (`calibration`).

    Attributes:
        rewards: the objectives, ``(objectives,)``.
        direction: given at any length, kept at length 1, ``(objectives,)``. A negative entry turns
            away from its objective.

    Raises:
        ConfigError: if it has no direction (all zero), or does not fit the rewards.
    """

    rewards: Sequence[Reward]
    direction: Sequence[float]

    def __post_init__(self) -> None:
        check_settings(self, rewards=A_REWARD)
        _require_one_each(self, self.rewards, "direction", self.direction)
        largest = max(map(abs, self.direction))
        if largest == 0:
            raise ConfigError(
                f"Direction(direction={self.direction!r}) points nowhere: at least one entry must "
                "differ from 0"
            )
        # by the largest entry first: squares of very large or small ones leave the floats
        entries = [entry / largest for entry in self.direction]
        length = math.hypot(*entries)
        object.__setattr__(self, "direction", tuple(entry / length for entry in entries))

    async def score(self, prompt: Prompt, response: Response) -> float:
        """How far the rewards go in the direction."""
        return await _weighted(self.rewards, self.direction, prompt, response)


@dataclass(frozen=True, slots=True)
class BradleyTerry(Composite):
    """``ln sigmoid(reward - reference)``, at most 0, nats.

    For a reward model trained on comparisons this is the log-probability that the response is
    preferred to one of reward `reference`: that it is *good*. It stresses mending what is poor, and
    hardly pays for what is good already. The sum over components (`WeightedSum` with weights of 1)
    is the log-probability that the response is good in *all* of them, if they are independent.
    Zihao Wang et al. 2024, arXiv:2402.00742, whose reference belongs to a prompt.

    Attributes:
        reward: raw, as a Bradley-Terry model gives it.
        reference: the reward of what is just good enough; see `reference_value`.

    Raises:
        ConfigError: if the reference is not finite.
    """

    reward: Reward
    reference: float

    def __post_init__(self) -> None:
        check_settings(self, reward=A_REWARD, reference=REWARD)

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The log-probability that the response is good."""
        value = await ask(self.reward, prompt, response)
        return combined(log_sigmoid(value - self.reference), [value])


@dataclass(frozen=True, slots=True)
class Capped(Composite):
    """``min(reward, cap)``: beyond the point where a reward is a good proxy, more of it is no gain.

    The point is where judged quality turns down while the reward still rises; it moves when
    components are correlated, so find it for the combination. Moskovitz et al. 2023,
    arXiv:2310.04373. Departs: they hold each component at its point by Lagrange multipliers learned
    in training; nothing is trained here, so a component simply stops to count.

    Attributes:
        reward: the component.
        cap: greatest value that counts, in the reward's own units.

    Raises:
        ConfigError: if the cap is not finite.
    """

    reward: Reward
    cap: float

    def __post_init__(self) -> None:
        check_settings(self, reward=A_REWARD, cap=REWARD)

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The reward, or the cap if it is less."""
        value = await ask(self.reward, prompt, response)
        return combined(min(value, self.cap), [value])


def reference_value(rewards: Sequence[float], *, quantile: float) -> float:
    """A quantile of rewards of the policy's own draws, as the `reference` of a `BradleyTerry`.

    Linear between order statistics: the value at rank ``quantile * (draws - 1)``, counted from 0.

    Args:
        rewards: of draws from the policy, ``(draws,)``; `calibration.own_rewards` makes them.
        quantile: between 0 and 1. What is good enough: 0.5 asks for better than half of what the
            policy writes, 0.9 for better than nine tenths.

    Raises:
        ConfigError: if there are no rewards, one is not finite, or the quantile is out of range.
    """
    if not rewards or not all(map(math.isfinite, rewards)):
        raise ConfigError(
            f"no quantile of {tuple(rewards)!r}: give at least 1 reward, all of them finite"
        )
    if not 0 <= quantile <= 1:
        raise ConfigError(f"quantile={quantile!r}: must be between 0 and 1")
    import numpy as np  # here, so that importing the package stays light

    return float(np.quantile(rewards, quantile))


async def _weighted(
    rewards: Sequence[Reward], weights: Sequence[float], prompt: Prompt, response: Response
) -> Scored:
    values = await ask_all(rewards, prompt, response)
    total = sum(weight * value for weight, value in zip(weights, values, strict=True))
    return combined(total, values)


def log_sigmoid(value: float) -> float:
    """ln(1 / (1 + exp(-value))), without overflow."""
    from scipy.special import log_expit  # here, so that importing the package stays light

    return float(log_expit(value))


def _require_one_each(
    owner: object, rewards: Sequence[Reward], name: str, numbers: Sequence[float]
) -> None:
    require_some(owner, "rewards", rewards)
    if len(numbers) != len(rewards):
        raise refused(owner, name, f"{len(rewards)} numbers, as many as there are rewards")

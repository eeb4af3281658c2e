"""Rewards that are computed from other rewards: sums, and transformations of one reward.

Each class takes rewards and is a reward itself, so the classes can be nested. The components are
scored concurrently, and their token counts are added. A reward that occurs in several components is
scored once per response if it is wrapped in `rsalign.rewards.wrappers.Cached`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rsalign.core.checks import REWARD, check_settings, setting_error
from rsalign.core.errors import ConfigError
from rsalign.core.protocols import Reward, Scored
from rsalign.core.types import Prompt, Response
from rsalign.rewards.parts import (
    A_REWARD,
    Composite,
    ask,
    ask_all,
    combined,
    component_names,
    log_sigmoid,
    require_some,
)


@dataclass(frozen=True, slots=True)
class WeightedSum(Composite):
    """The weighted sum ``sum_i weights[i] * rewards[i]``.

    Raw scores of different reward models have different units; bring them to one scale first (see
    `rsalign.rewards.calibration`).

    Attributes:
        rewards: the components, ``(components,)``.
        weights: one finite number per component, ``(components,)``; they need not sum to 1.

    Raises:
        ConfigError: if there is no component, a component is not a reward, or the number of weights
            differs from the number of components.

    Example:
        >>> import asyncio
        >>> from rsalign import FunctionReward, Message, Prompt, Response, Stop
        >>> prompt = Prompt((Message("user", "Hi"),), (1,))
        >>> response = Response((2,), "Hello", Stop.EOS)
        >>> length = FunctionReward(lambda question, answer: len(answer))
        >>> float(asyncio.run(WeightedSum([length, length], [1.0, 0.5]).score(prompt, response)))
        7.5
    """

    rewards: Sequence[Reward]
    weights: Sequence[float]

    def __post_init__(self) -> None:
        check_settings(self, rewards=A_REWARD)
        _require_one_each(self, self.rewards, "weights", self.weights)

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The weighted sum of the components' values; each is a component by name."""
        return await _weighted(self.rewards, self.weights, prompt, response)


@dataclass(frozen=True, slots=True)
class Direction(Composite):
    """``sum_i v_i * rewards[i]`` with the unit vector ``v = direction / |direction|``.

    The direction states a trade-off between objectives. Since the vector is normalised, it does not
    change the strength of the reward, so one ``beta`` can be used for all directions. For two
    objectives, ``(cos a, sin a)`` moves from the first objective (a = 0) to the second (a = pi/2).
    The objectives should be on one scale (`rsalign.rewards.calibration`).

    Paper: Haoxiang Wang et al. 2024, arXiv:2402.18571, who train a policy on such directions.

    Attributes:
        rewards: the objectives, ``(objectives,)``.
        direction: a vector of any positive length, stored at length 1, ``(objectives,)``. A
            negative entry penalises its objective.

    Raises:
        ConfigError: if all entries are 0, or their number differs from that of the rewards.

    Example:
        >>> import asyncio
        >>> from rsalign import FunctionReward, Message, Prompt, Response, Stop
        >>> prompt = Prompt((Message("user", "Hi"),), (1,))
        >>> response = Response((2,), "Hello", Stop.EOS)
        >>> length = FunctionReward(lambda question, answer: len(answer))
        >>> float(asyncio.run(Direction([length, length], [3.0, 4.0]).score(prompt, response)))
        7.0
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
        # divide by the largest entry first, so that no square overflows or underflows
        entries = [entry / largest for entry in self.direction]
        length = math.hypot(*entries)
        object.__setattr__(self, "direction", tuple(entry / length for entry in entries))

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The projection of the rewards onto the direction."""
        return await _weighted(self.rewards, self.direction, prompt, response)


@dataclass(frozen=True, slots=True)
class BradleyTerry(Composite):
    """``ln sigmoid(reward - reference)``, at most 0, nats.

    For a reward model trained on comparisons (a Bradley-Terry model), this is the log-probability
    that the response is preferred to a response whose reward is `reference`. The transformation is
    steep below the reference and flat above it: improving a poor response counts more than
    improving a good one. If the components are independent, their sum (`WeightedSum` with weights
    of 1) is the log-probability that the response beats the reference in *all* components.

    Paper: Zihao Wang et al. 2024, arXiv:2402.00742, who use a reference value for each prompt.

    Attributes:
        reward: a Bradley-Terry model's raw score.
        reference: the reward of a response that is just good enough; see `reference_value`.

    Raises:
        ConfigError: if the reference is not finite.

    Example:
        >>> import asyncio
        >>> from rsalign import FunctionReward, Message, Prompt, Response, Stop
        >>> prompt = Prompt((Message("user", "Hi"),), (1,))
        >>> response = Response((2,), "Hello", Stop.EOS)
        >>> length = FunctionReward(lambda question, answer: len(answer))
        >>> float(asyncio.run(BradleyTerry(length, reference=5.0).score(prompt, response)))
        -0.6931471805599453
    """

    reward: Reward
    reference: float

    def __post_init__(self) -> None:
        check_settings(self, reward=A_REWARD, reference=REWARD)

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The log-probability that the response is preferred to the reference."""
        value = await ask(self.reward, prompt, response)
        return combined(log_sigmoid(value - self.reference), [value])


@dataclass(frozen=True, slots=True)
class Capped(Composite):
    """``min(reward, cap)``: a reward that stops growing where it stops being a good proxy.

    Choose the cap at the reward value beyond which the judged quality falls while the reward still
    rises. That value moves when components are correlated, so determine it for the combination.

    Paper: Moskovitz et al. 2023, arXiv:2310.04373.
    Departs: the paper holds each component at its cap by Lagrange multipliers that are learned in
    training. Nothing is trained here: values above the cap simply count as the cap.

    Attributes:
        reward: the component.
        cap: the greatest value that counts, in the reward's own units.

    Raises:
        ConfigError: if the cap is not finite.

    Example:
        >>> import asyncio
        >>> from rsalign import FunctionReward, Message, Prompt, Response, Stop
        >>> prompt = Prompt((Message("user", "Hi"),), (1,))
        >>> response = Response((2,), "Hello", Stop.EOS)
        >>> length = FunctionReward(lambda question, answer: len(answer))
        >>> float(asyncio.run(Capped(length, cap=3.0).score(prompt, response)))
        3.0
    """

    reward: Reward
    cap: float

    def __post_init__(self) -> None:
        check_settings(self, reward=A_REWARD, cap=REWARD)

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The smaller of the reward and the cap."""
        value = await ask(self.reward, prompt, response)
        return combined(min(value, self.cap), [value])


def reference_value(rewards: Sequence[float], *, quantile: float) -> float:
    """A quantile of the rewards of the policy's own samples, for `BradleyTerry.reference`.

    Interpolates linearly between order statistics (numpy's method "linear").

    Args:
        rewards: of samples from the policy, ``(draws,)``; see `calibration.own_rewards`.
        quantile: between 0 and 1. With 0.5 a response is good if it beats half of the policy's
            samples, with 0.9 if it beats nine tenths of them.

    Raises:
        ConfigError: if there are no rewards, one is not finite, or the quantile is out of range.

    Example:
        >>> reference_value([1.0, 2.0, 4.0], quantile=0.75)
        3.0
    """
    if not rewards or not all(map(math.isfinite, rewards)):
        raise ConfigError(
            f"no quantile of {tuple(rewards)!r}: give at least 1 reward, all of them finite"
        )
    if not 0 <= quantile <= 1:
        raise ConfigError(f"quantile={quantile!r}: must be between 0 and 1")
    import numpy as np

    return float(np.quantile(rewards, quantile, method="linear"))


async def _weighted(
    rewards: Sequence[Reward], weights: Sequence[float], prompt: Prompt, response: Response
) -> Scored:
    values = await ask_all(rewards, prompt, response)
    total = sum(weight * value for weight, value in zip(weights, values, strict=True))
    return combined(total, values, component_names(rewards))


def _require_one_each(
    owner: object, rewards: Sequence[Reward], name: str, numbers: Sequence[float]
) -> None:
    require_some(owner, "rewards", rewards)
    if len(numbers) != len(rewards):
        raise setting_error(owner, name, f"{len(rewards)} numbers, as many as there are rewards")

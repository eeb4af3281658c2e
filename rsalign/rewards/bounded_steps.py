"""Step rewards whose sum is bounded, so that repeating good steps earns nothing.

A process reward model gives every correct step a high value. Summed over steps, a response gains by
writing correct but needless ones. Both transformations are from Gao et al. 2024, arXiv:2410.15115,
who shape rewards in training. Combined as there, clipping comes first:
``DeltaSteps(ClippedSteps(model, eta))``.
"""

from dataclasses import dataclass
from itertools import pairwise

from rsalign.core.checks import REWARD, check_settings
from rsalign.core.protocols import StepReward
from rsalign.core.types import Prompt, Response
from rsalign.rewards.parts import A_STEP_REWARD, Composite, ask_steps, combined


@dataclass(frozen=True, slots=True)
class ClippedSteps(Composite):
    """``min(r_k - eta, 0)`` for every step k: only poor steps count, against the response.

    The sum is at most 0, and every step of at least `eta` leaves it as it was.

    Attributes:
        step_reward: gives r_k.
        eta: what a good step has, in the step reward's own units. The paper sets it so that most
            steps have 0.

    Raises:
        ConfigError: if `eta` is not finite.
    """

    step_reward: StepReward
    eta: float

    def __post_init__(self) -> None:
        check_settings(self, step_reward=A_STEP_REWARD, eta=REWARD)

    async def score_steps(
        self, prompt: Prompt, response: Response, ends: tuple[int, ...]
    ) -> tuple[float, ...]:
        """How far each step falls short, ``(steps,)``, all at most 0."""
        values = await ask_steps(self.step_reward, prompt, response, ends)
        return tuple(combined(min(value - self.eta, 0.0), [value]) for value in values)


@dataclass(frozen=True, slots=True)
class DeltaSteps(Composite):
    """``r_k - r_{k+1}``, which telescopes: from step k on the sum is r_k, however many follow.

    Of a complete response with K steps, step ``K - 1`` has ``r_{K-1}`` and the last has 0, because
    the answer is judged as a whole by an outcome reward; the sum is r_1 (0 for a single step).
    Departs, for open responses only, which the paper has none of: more steps follow, so that none
    of those there is the last; step K has r_K, and the sum is r_1 as well.

    Attributes:
        step_reward: gives r_k.
    """

    step_reward: StepReward

    def __post_init__(self) -> None:
        check_settings(self, step_reward=A_STEP_REWARD)

    async def score_steps(
        self, prompt: Prompt, response: Response, ends: tuple[int, ...]
    ) -> tuple[float, ...]:
        """What each step has over the next, ``(steps,)``."""
        values = await ask_steps(self.step_reward, prompt, response, ends)
        last = values[-1:] if response.complete else ()
        counted = values[: len(values) - len(last)]
        # what follows the last step that counts is 0; pairwise, so that no step is no pair
        deltas = [value - after for value, after in pairwise((*counted, 0.0))]
        deltas += [0.0] * len(last)
        return tuple(combined(delta, [value]) for delta, value in zip(deltas, values, strict=True))

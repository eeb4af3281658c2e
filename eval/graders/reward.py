"""Graders that ask a reward: a reward model, a judge, or a comparison with a reference.

They need the prompt and the response as the sampler had them, and may wait, so they are no part of
a task: a configuration names one (``grader=reward``, ``conf/grader``), and `eval.grading` asks it
beside the task. What cannot be scored is ungradable.

A grade by the very reward that was maximised says nothing: use another one.
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from eval.tasks.protocol import Grade, Item, ungradable
from rsalign import ConfigError, Prompt, Response, RewardError, Stop
from rsalign.core.checks import REWARD, check_settings, finite_reward, part
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.protocols import PairwiseReward, Reward

Scale: TypeAlias = Literal["above", "probability", "logistic"]


class RewardGrader(Protocol):
    """Grades a response by a reward."""

    async def grade(self, item: Item, prompt: Prompt, response: Response) -> Grade:
        """The verdict on `response`, an answer to `item`."""
        ...


def of_the_task() -> None:
    """No grader: the task's own verdict counts."""
    return


@dataclass(frozen=True, slots=True, kw_only=True)
class ByReward:
    """A reward's value, made a grade; ``details["reward"]`` keeps the value.

    Attributes:
        reward: the judge.
        scale: ``"above"``: 1 if the reward is above `threshold`, else 0 (a reward just there is
            marked as a tie); ``"probability"``: the reward itself, ungradable outside 0 .. 1;
            ``"logistic"``: 1 / (1 + exp(threshold - reward)).
        threshold: in the reward's units; unused by ``"probability"``.

    Raises:
        ConfigError: if the scale is unknown or the threshold not finite.
    """

    reward: Reward
    scale: Scale = "above"
    threshold: float = 0.0

    def __post_init__(self) -> None:
        check_settings(self, reward=part("a reward"), threshold=REWARD)

    async def grade(self, item: Item, prompt: Prompt, response: Response) -> Grade:
        """See the class."""
        try:
            with errors_as(_failed):
                given = await self.reward.score(prompt, response)
                value = float(finite_reward(given, self.reward, prompt, response))
        except (RewardError, ConfigError) as failure:  # it may not fit the judge
            return ungradable(f"the reward failed: {failure}")
        details = {"reward": value, "tie": self.scale == "above" and value == self.threshold}
        if self.scale == "above":
            return Grade(score=float(value > self.threshold), details=details)
        if self.scale == "logistic":
            return Grade(score=_logistic(value - self.threshold), details=details)
        if not 0 <= value <= 1:
            return ungradable(f"the reward is {value}, which is no probability")
        return Grade(score=value, details=details)


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatsReference:
    """1 if the response is preferred to the item's reference, else 0; a tie is marked, and is 0.

    The mean over items is a win rate.

    Attributes:
        reward: compares two responses, or scores each.
        reference: the key of the reference in ``item.gold``, such as ``"chosen"``.

    Raises:
        ConfigError: if `reward` is none.
    """

    reward: Reward | PairwiseReward
    reference: str = "reference"

    def __post_init__(self) -> None:
        check_settings(self, reward=part("a reward, of one response or of two"))

    async def grade(self, item: Item, prompt: Prompt, response: Response) -> Grade:
        """See the class; ungradable if the item has no reference."""
        text = item.gold.get(self.reference) if isinstance(item.gold, dict) else None
        if not isinstance(text, str):
            return ungradable(f"the item has no reference {self.reference!r}")
        # rewards of texts read no token ids, which the reference has none of in this vocabulary
        reference = Response(tokens=(), text=text, stop=Stop.EOS)
        try:
            with errors_as(_failed):
                if isinstance(self.reward, PairwiseReward):
                    prefer = await self.reward.prefer(prompt, response, reference)
                    margin = finite_reward(prefer, self.reward, prompt, response) - 0.5
                else:
                    ours = await self.reward.score(prompt, response)
                    theirs = await self.reward.score(prompt, reference)
                    margin = finite_reward(ours, self.reward, prompt, response) - finite_reward(
                        theirs, self.reward, prompt, reference
                    )
        except (RewardError, ConfigError) as failure:
            return ungradable(f"the reward failed: {failure}")
        return Grade(score=float(margin > 0), details={"margin": margin, "tie": margin == 0})


def _failed(failure: BaseException) -> RewardError:
    return RewardError(f"it raised {describe_error(failure)}")


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))

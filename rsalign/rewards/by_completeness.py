"""ByCompleteness: one reward for complete answers, and another for unfinished ones."""

from dataclasses import dataclass

from rsalign.core.checks import check_settings
from rsalign.core.protocols import Reward
from rsalign.core.types import Prompt, Response
from rsalign.rewards.parts import A_REWARD, Composite, ask


@dataclass(frozen=True, slots=True)
class ByCompleteness(Composite):
    """Scores complete responses by one reward, and open ones by another.

    The reward of an answer and the reward that guides its growth are two things: an outcome reward
    knows nothing of half an answer, and a process reward judges its steps. With `Particles` the
    second is the twist, which does not change the target.

    Attributes:
        complete: the reward of complete responses.
        partial: the reward of open ones, in the same units.

    Raises:
        ConfigError: if one of them is no reward.

    Example:
        >>> import asyncio
        >>> from rsalign import FunctionReward, Message, Prompt, Response, Stop
        >>> right = FunctionReward(lambda question, answer: float(answer.endswith("38")))
        >>> steps = FunctionReward(lambda question, answer: answer.count("=") / 4)
        >>> reward = ByCompleteness(complete=right, partial=steps)
        >>> prompt = Prompt((Message("user", "Hi"),), (1,))
        >>> half = Response((2,), "12 + 7 = 19", Stop.BOUNDARY)
        >>> float(asyncio.run(reward.score(prompt, half)))
        0.25
    """

    complete: Reward
    partial: Reward

    def __post_init__(self) -> None:
        check_settings(self, complete=A_REWARD, partial=A_REWARD)

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The reward of the kind of response that it is."""
        reward = self.complete if response.complete else self.partial
        return await ask(reward, prompt, response)

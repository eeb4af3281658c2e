"""Drafts that no reward is asked about: of strategies that judge only complete answers."""

from dataclasses import dataclass, replace

from rsalign.core.capabilities import excludes
from rsalign.core.protocols import Reward
from rsalign.core.run import Run
from rsalign.core.types import Prompt, Response


def without_reward(run: Run) -> Run:
    """Returns the run with a reward that is always 0 and costs nothing.

    Example:
        >>> from rsalign import Key
        >>> from rsalign.testing import ToyPolicy, ToyReward
        >>> run = without_reward(Run(ToyPolicy(), ToyReward(), Key(0)))
        >>> type(run.reward).__name__
        '_Nothing'
    """
    return replace(run, reward=_Nothing())


def judging_whole_answers(run: Run) -> Run:
    """Returns the run with a reward that is 0, and costs nothing, for what is unfinished.

    Of strategies that write segments and use no reward: the answer has its reward, and the segments
    are not judged. A reward that excludes stays as it is, since its constraint reads prefixes.

    Example:
        >>> import asyncio
        >>> from rsalign import Key, Message, Prompt
        >>> from rsalign.core.types import Stop
        >>> from rsalign.testing import ToyPolicy, ToyReward
        >>> run = judging_whole_answers(Run(ToyPolicy(), ToyReward(), Key(0)))
        >>> prompt = Prompt((Message("user", "1"),), (1,))
        >>> begun = Response((1,), "1", None)
        >>> whole = Response((1, 0), "1", Stop.EOS)
        >>> rewards = [asyncio.run(run.reward.score(prompt, one)) for one in (begun, whole)]
        >>> rewards == [0.0, ToyReward().value((1, 0))]
        True
    """
    return run if excludes(run.reward) else replace(run, reward=_OfWholeAnswers(run.reward))


@dataclass(frozen=True, slots=True)
class _OfWholeAnswers:
    reward: Reward

    async def score(self, prompt: Prompt, response: Response) -> float:
        return await self.reward.score(prompt, response) if response.complete else 0.0


class _Nothing:
    async def score(self, prompt: Prompt, response: Response) -> float:
        return 0.0

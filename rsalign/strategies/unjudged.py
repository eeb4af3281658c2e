"""Drafts that no reward is asked about: of strategies that judge only complete answers."""

from dataclasses import replace

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


class _Nothing:
    async def score(self, prompt: Prompt, response: Response) -> float:
        return 0.0

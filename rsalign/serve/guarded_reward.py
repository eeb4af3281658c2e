"""A reward that a server can rely on to answer in time or to fail as a reward fails."""

import asyncio
import logging
from dataclasses import dataclass

from rsalign.checks import finite_or_none, shown
from rsalign.errors import ConfigError, RewardError, RsalignError
from rsalign.protocols import Reward
from rsalign.types import Prompt, Response

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GuardedReward:
    """The reward, or a `RewardError` that names no prompt and no answer: it goes to clients.

    Attributes:
        reward: what is asked.
        timeout_seconds: longest time that it may take for one response; None is no limit.
    """

    reward: Reward
    timeout_seconds: float | None = None

    async def score(self, prompt: Prompt, response: Response) -> float:
        """As the reward.

        Raises:
            RewardError: if it failed, in whatever way, or took too long.
            ConfigError: if its chat template refuses the conversation.
        """
        try:
            async with asyncio.timeout(self.timeout_seconds) as deadline:
                value = await self.reward.score(prompt, response)
        except ConfigError:
            raise
        except Exception as failure:  # of anyone's reward, on behalf of a client
            logger.debug("the reward failed on %r", response.text, exc_info=True)
            if deadline.expired():
                raise RewardError(
                    f"the reward took longer than {self.timeout_seconds} seconds"
                ) from None
            if any(kind.__name__ == "TemplateError" for kind in type(failure).__mro__):
                raise ConfigError(
                    f"the reward model's chat template refuses this conversation: {failure}"
                ) from None
            cause = failure.__cause__ if isinstance(failure, RsalignError) else failure
            raise RewardError(f"the reward failed ({type(cause or failure).__name__})") from None
        found = finite_or_none(value)
        if found is None:
            raise RewardError(f"the reward is {shown(value)}, but must be a finite number")
        return found

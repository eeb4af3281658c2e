"""A reward that a server can rely on to answer in time or to fail as a reward fails."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from rsalign.core.checks import finite_or_none, quote
from rsalign.core.errors import ConfigError, RewardError, RsalignError
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.protocols import PairwiseReward, Reward, StepReward
from rsalign.core.types import Prompt, Response
from rsalign.core.wrapper import Wrapper

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GuardedReward(Wrapper):
    """The reward, or a `RewardError` that names no prompt and no answer: it goes to clients.

    Attributes:
        reward: what is asked.
        timeout_seconds: longest time that it may take for one response; None is no limit.
    """

    wrapped_as: ClassVar[str] = "reward"

    reward: Reward
    timeout_seconds: float | None = None

    async def score(self, prompt: Prompt, response: Response) -> float:
        """As the reward.

        Raises:
            RewardError: if it failed, in whatever way, or took too long.
            ConfigError: if its chat template refuses the conversation.
        """
        value = await self._guarded(lambda: self.reward.score(prompt, response), response.text)
        return _finite(value)

    async def _guarded(self, call: Callable[[], Awaitable[T]], text: str) -> T:
        try:
            async with asyncio.timeout(self.timeout_seconds) as deadline:
                with errors_as(lambda failure: RewardError(describe_error(failure))):
                    return await call()
        except ConfigError:
            raise
        except (RsalignError, TimeoutError) as failure:
            logger.debug("the reward failed on %r", text, exc_info=True)
            if deadline.expired():
                raise RewardError(
                    f"the reward took longer than {self.timeout_seconds} seconds"
                ) from None
            causes = [*_causes(failure)]
            for cause in causes:
                if any(kind.__name__ == "TemplateError" for kind in type(cause).__mro__):
                    raise ConfigError(
                        f"the reward model's chat template refuses this conversation: {cause}"
                    ) from None
            raise RewardError(f"the reward failed ({type(causes[0]).__name__})") from None


@GuardedReward.implements(StepReward)
async def score_steps(
    self: GuardedReward, prompt: Prompt, response: Response, ends: tuple[int, ...]
) -> tuple[float, ...]:
    """As the reward; errors as in `GuardedReward.score`."""
    inner: StepReward = self.wrapped
    values = await self._guarded(lambda: inner.score_steps(prompt, response, ends), response.text)
    return tuple(map(_finite, values))


@GuardedReward.implements(PairwiseReward)
async def prefer(self: GuardedReward, prompt: Prompt, one: Response, other: Response) -> float:
    """As the reward; errors as in `GuardedReward.score`."""
    inner: PairwiseReward = self.wrapped
    return _finite(await self._guarded(lambda: inner.prefer(prompt, one, other), one.text))


def _finite(value: object) -> float:
    found = finite_or_none(value)
    if found is None:
        raise RewardError(f"the reward is {quote(value)}, but must be a finite number")
    return found


def _causes(failure: BaseException) -> Iterator[BaseException]:
    """What the failure came of, the nearest first; itself where it came of nothing."""
    cause = failure.__cause__
    if cause is None:
        yield failure
    while cause is not None:
        yield cause
        cause = cause.__cause__

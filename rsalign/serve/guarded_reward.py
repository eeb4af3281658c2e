"""A reward with a time limit, whose errors can be shown to clients."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

from jinja2 import TemplateError

from rsalign.core.checks import finite_or_none, quote
from rsalign.core.errors import (
    ConfigError,
    PolicyError,
    RewardError,
    RsalignError,
    TextTooLongError,
)
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.protocols import PairwiseReward, Reward, StepReward
from rsalign.core.types import Message, Prompt, Response
from rsalign.core.wrapper import Wrapper
from rsalign.engines.answers import ServerRefusedError

T = TypeVar("T")

logger = logging.getLogger(__name__)

MOST_FAILED = 3
PROBE_SECONDS = 5.0


@dataclass(slots=True)
class RewardHealth:
    """What the last calls of a reward tell of it.

    Attributes:
        num_failed: calls that failed since the last one that did not.
    """

    num_failed: int = 0

    @property
    def works(self) -> bool:
        """Whether fewer than `MOST_FAILED` calls have failed one after the other."""
        return self.num_failed < MOST_FAILED


@dataclass(frozen=True, slots=True)
class GuardedReward(Wrapper):
    """Wraps a reward: a call that fails or takes too long is a `RewardError` without any text.

    The error goes to clients, who may not see the prompts and answers of others; what the reward
    raised is in the log (level debug).

    Attributes:
        reward: the reward.
        timeout_seconds: longest time that it may take for one response; None is no limit.

    Example:
        >>> import asyncio
        >>> from rsalign.testing import ToyReward
        >>> guarded = GuardedReward(ToyReward(), timeout_seconds=1.0)
        >>> prompt, response = Prompt((), (1,)), Response((1, 0), "1", None)
        >>> asyncio.run(guarded.score(prompt, response)) == ToyReward().value((1, 0))
        True
    """

    wrapped_as: ClassVar[str] = "reward"

    reward: Reward
    timeout_seconds: float | None = None
    health: "RewardHealth" = field(default_factory=lambda: RewardHealth(), compare=False)

    async def probe(self) -> bool:
        """Asks the reward about a short text, within `PROBE_SECONDS`; whether it answers."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self.score(
                    Prompt((Message("user", "Hello"),), (0,)), Response((), "Hi", None)
                )
        except (RsalignError, TimeoutError):
            return False
        return True

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The reward's value.

        Raises:
            RewardError: if the reward failed in any way or took too long.
            TextTooLongError: if prompt and response are too long for it.
            ConfigError: if its chat template refuses the conversation.
        """
        value = await self._guarded(lambda: self.reward.score(prompt, response), response.text)
        return _require_finite(value)

    async def _guarded(self, call: Callable[[], Awaitable[T]], text: str) -> T:
        try:
            async with asyncio.timeout(self.timeout_seconds) as deadline:
                with errors_as(lambda failure: RewardError(describe_error(failure))):
                    value = await call()
                    self.health.num_failed = 0
                    return value
        except ServerRefusedError as refused:
            self.health.num_failed += 1
            logger.warning("the reward server refuses a request: %s", refused)  # with its address
            raise RewardError("the reward server refuses the request") from None
        except (ConfigError, TextTooLongError):
            raise
        except (RsalignError, TimeoutError) as failure:
            self.health.num_failed += 1
            logger.debug("the reward failed on %r", text, exc_info=True)
            if deadline.expired():
                raise RewardError(
                    f"the reward took longer than {self.timeout_seconds} seconds"
                ) from None
            causes = [*_list_causes(failure)]
            for cause in causes:
                if isinstance(cause, TemplateError):
                    raise ConfigError(
                        f"the reward model's chat template refuses this conversation: {cause}"
                    ) from None
            if isinstance(failure, PolicyError):
                raise RewardError("the reward server does not answer") from None
            raise RewardError(f"the reward failed ({type(causes[0]).__name__})") from None


@GuardedReward.implements(StepReward)
async def score_steps(
    self: GuardedReward, prompt: Prompt, response: Response, ends: tuple[int, ...]
) -> tuple[float, ...]:
    """The reward's values; errors as in `GuardedReward.score`."""
    inner: StepReward = self.wrapped
    values = await self._guarded(lambda: inner.score_steps(prompt, response, ends), response.text)
    return tuple(map(_require_finite, values))


@GuardedReward.implements(PairwiseReward)
async def prefer(self: GuardedReward, prompt: Prompt, one: Response, other: Response) -> float:
    """The reward's preference; errors as in `GuardedReward.score`."""
    inner: PairwiseReward = self.wrapped
    return _require_finite(await self._guarded(lambda: inner.prefer(prompt, one, other), one.text))


def _require_finite(value: object) -> float:
    found = finite_or_none(value)
    if found is None:
        raise RewardError(f"the reward is {quote(value)}, but must be a finite number")
    return found


def _list_causes(failure: BaseException) -> Iterator[BaseException]:
    """The chain of a failure's causes, the nearest first; the failure itself if it has none."""
    cause = failure.__cause__
    if cause is None:
        yield failure
    while cause is not None:
        yield cause
        cause = cause.__cause__

"""Wrappers around a reward that are rewards themselves: Scaled, Cached, Metered.

They can be nested, and the order matters: ``Cached(Metered(reward))`` counts the calls that the
cache did not answer, ``Metered(Cached(reward))`` counts all calls. Closing a wrapper closes the
wrapped reward.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias, TypeVar

from cachetools import LRUCache

from rsalign.core.checks import at_least, check_int, check_settings, check_value, finite_reward
from rsalign.core.protocols import PairwiseReward, Reward, Scored, StepReward
from rsalign.core.types import Prompt, Response, Stop
from rsalign.core.wrapper import Wrapper
from rsalign.rewards.parts import (
    A_REWARD,
    Composite,
    ask,
    ask_steps,
    close_all,
    combined,
)

T = TypeVar("T")

_Question: TypeAlias = tuple[Prompt, str, Stop | None]


@dataclass(frozen=True, slots=True)
class Scaled(Composite, Wrapper):
    """``scale * reward + shift``; `rsalign.rewards.calibration` finds both from samples.

    A sampler that weights responses by ``exp(reward / beta)`` has the same law for every `shift`;
    a `scale` has the same effect as dividing ``beta`` by it.

    Attributes:
        reward: the reward in its own units.
        scale: a finite factor; a negative one reverses the ranking.
        shift: a finite number in the new units.

    Raises:
        ConfigError: if `scale` or `shift` is not finite.

    Example:
        >>> import asyncio
        >>> from rsalign import FunctionReward, Message, Prompt, Response, Stop
        >>> prompt = Prompt((Message("user", "Hi"),), (1,))
        >>> response = Response((2,), "Hello", Stop.EOS)
        >>> length = FunctionReward(lambda question, answer: len(answer))
        >>> float(asyncio.run(Scaled(length, scale=2.0, shift=-1.0).score(prompt, response)))
        9.0
    """

    wrapped_as: ClassVar[str] = "reward"

    reward: Reward
    scale: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        check_settings(self, reward=A_REWARD)

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The reward in the new units."""
        value = await ask(self.reward, prompt, response)
        return combined(self.scale * value + self.shift, [value])


@Scaled.implements(StepReward)
async def score_steps(
    self: Scaled, prompt: Prompt, response: Response, ends: tuple[int, ...]
) -> tuple[float, ...]:
    """Each step's value in the new units, ``(steps,)``."""
    values = await ask_steps(self.wrapped, prompt, response, ends)
    return tuple(combined(self.scale * value + self.shift, [value]) for value in values)


@Scaled.implements(PairwiseReward)
async def prefer(self: Scaled, prompt: Prompt, one: Response, other: Response) -> float:
    """The reward's preference; a negative scale reverses it, and 0 makes every pair a tie."""
    inner: PairwiseReward = self.wrapped
    value = finite_reward(await inner.prefer(prompt, one, other), inner, prompt, one)
    turned = 0.5 if self.scale == 0 else value if self.scale > 0 else 1 - value
    return combined(turned, [value] if isinstance(value, Scored) else [])


class Cached(Wrapper):
    """Caches scores, so that the same response to the same prompt is scored once.

    The cache key is the prompt, the response text and `Response.stop`. Do not cache a reward that
    reads anything else of a response (its token ids or its log-probabilities).

    Concurrent calls with the same key share one call of the reward, and only the first of them
    reports its cost. If that first call is cancelled, one of the waiting calls starts another. If
    the reward raises an error, all waiting calls raise it, and a later call tries again. Event
    loops share the cached values, but not the calls that are still open. Step values and pairwise
    preferences are not cached.

    Args:
        reward: the reward whose scores are cached.
        max_size: the greatest number of cached scores; the least recently used is evicted first.

    Raises:
        ConfigError: if `max_size` is not a whole number of at least 1.

    Example:
        >>> import asyncio
        >>> from rsalign import FunctionReward, Message, Prompt, Response, Stop
        >>> prompt = Prompt((Message("user", "Hi"),), (1,))
        >>> response = Response((2,), "Hello", Stop.EOS)
        >>> counted = Metered(FunctionReward(lambda question, answer: len(answer)))
        >>> cached = Cached(counted)
        >>> [float(asyncio.run(cached.score(prompt, response))) for _ in range(3)]
        [5.0, 5.0, 5.0]
        >>> counted.statistics().calls
        1
    """

    wrapped_as: ClassVar[str] = "reward"

    def __init__(self, reward: Reward, max_size: int = 10_000) -> None:
        self.reward: Reward = check_value("Cached", "reward", reward, Reward, A_REWARD)
        self.max_size = check_int(
            "Cached", "max_size", max_size, at_least(1, note="for no cache leave the wrapper out")
        )
        self._answers: LRUCache[_Question, Scored] = LRUCache(self.max_size)
        self._calls: dict[tuple[asyncio.AbstractEventLoop, _Question], _Call] = {}
        self._lock = threading.Lock()  # calls may come from event loops of several threads

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The reward's score; a cached score reports a cost of 0 tokens."""
        question = (prompt, response.text, response.stop)
        place = (asyncio.get_running_loop(), question)
        while True:
            with self._lock:
                if question in self._answers:
                    return self._answers[question]
                call = self._calls.get(place)
                if call is None:
                    mine = self._calls[place] = _Call()
                    break
            await call.ended.wait()
            if call.failure is not None:
                raise call.failure
            if call.answer is not None:
                return call.answer
        try:
            value = await ask(self.reward, prompt, response)
            # without its cost
            mine.answer = Scored(value, parts=value.parts, excluded=value.excluded)
            with self._lock:
                self._answers[question] = mine.answer
        except Exception as failure:
            mine.failure = failure
            raise
        finally:
            # if cancelled, the waiting calls find neither answer nor failure, and one starts anew
            with self._lock:
                del self._calls[place]
            mine.ended.set()
        return value

    def close(self) -> None:
        """Closes the reward."""
        close_all([self.reward])

    def __repr__(self) -> str:
        return f"Cached({self.reward!r}, max_size={self.max_size})"


@dataclass(slots=True)
class _Call:
    """An open call of the reward, and what the calls that wait for it need."""

    ended: asyncio.Event = field(default_factory=asyncio.Event)
    answer: Scored | None = None
    failure: Exception | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardStatistics:
    """Totals over all calls of a reward up to one moment.

    Attributes:
        calls: number of calls begun, including those that failed or were cancelled.
        tokens: number of tokens the reward model was given, if it reports them (`Scored`).
        cached_tokens: how many of these were in its prefix cache.
        seconds: waiting time summed over ended calls; each of several overlapping calls counts in
            full.
    """

    calls: int = 0
    tokens: int = 0
    cached_tokens: int = 0
    seconds: float = 0.0


class Metered(Wrapper):
    """Counts the calls, tokens and seconds of a reward over its whole lifetime and all callers.

    The cost of a single run is in its `rsalign.core.budget.Usage` instead.

    Args:
        reward: the reward to measure; its values are passed on unchanged.

    Example:
        >>> import asyncio
        >>> from rsalign import FunctionReward, Message, Prompt, Response, Stop
        >>> reward = Metered(FunctionReward(lambda question, answer: len(answer)))
        >>> prompt = Prompt((Message("user", "Hi"),), (1,))
        >>> response = Response((2,), "Hello", Stop.EOS)
        >>> asyncio.run(reward.score(prompt, response))
        5.0
        >>> reward.statistics().calls
        1
    """

    wrapped_as: ClassVar[str] = "reward"

    def __init__(self, reward: Reward) -> None:
        self.reward: Reward = check_value("Metered", "reward", reward, Reward, A_REWARD)
        self._statistics = RewardStatistics()
        self._lock = threading.Lock()  # calls may come from event loops of several threads

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The reward's score, unchanged."""
        return await self._counted(self.reward.score(prompt, response))

    def statistics(self) -> RewardStatistics:
        """The totals so far, as a value that later calls do not change."""
        return self._statistics

    def close(self) -> None:
        """Closes the reward; the statistics stay readable."""
        close_all([self.reward])

    def __repr__(self) -> str:
        return f"Metered({self.reward!r})"

    async def _counted(self, call: Awaitable[T]) -> T:
        """Awaits one call and counts it, with its token cost where the value carries it."""
        self._count(calls=1)
        started = time.perf_counter()
        try:
            answer = await call
        finally:
            self._count(seconds=time.perf_counter() - started)
        for value in answer if isinstance(answer, tuple) else (answer,):
            if isinstance(value, Scored):
                self._count(tokens=value.tokens, cached_tokens=value.cached_tokens)
        return answer

    def _count(
        self, *, calls: int = 0, tokens: int = 0, cached_tokens: int = 0, seconds: float = 0.0
    ) -> None:
        with self._lock:
            spent = self._statistics
            self._statistics = RewardStatistics(
                calls=spent.calls + calls,
                tokens=spent.tokens + tokens,
                cached_tokens=spent.cached_tokens + cached_tokens,
                seconds=spent.seconds + seconds,
            )


@Metered.implements(StepReward)
async def metered_steps(
    self: Metered, prompt: Prompt, response: Response, ends: tuple[int, ...]
) -> tuple[float, ...]:
    """The reward's values, unchanged; counted as one call."""
    inner: StepReward = self.wrapped
    return await self._counted(inner.score_steps(prompt, response, ends))


@Metered.implements(PairwiseReward)
async def metered_preference(
    self: Metered, prompt: Prompt, one: Response, other: Response
) -> float:
    """The reward's values, unchanged; counted as one call."""
    inner: PairwiseReward = self.wrapped
    return await self._counted(inner.prefer(prompt, one, other))

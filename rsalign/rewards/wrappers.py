"""Wrappers that take a reward and are one: Scaled, Cached, Metered.

They nest like functions, and the order says what is meant: ``Cached(Metered(reward))`` counts what
the reward was really asked, ``Metered(Cached(reward))`` what was wanted of it. Closing one closes
what it wraps.
"""

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias, TypeVar

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
    """``scale * reward + shift``: another unit and zero; see `rsalign.rewards.calibration`.

    A shift changes no law of a sampler that weights by ``exp(reward / beta)``; a scale does what
    dividing ``beta`` by it does.

    Attributes:
        reward: in its own units.
        scale: a negative one turns the reward around.
        shift: in the new units.

    Raises:
        ConfigError: if one of them is not finite.
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
    """As the reward prefers; a negative scale turns it around, and 0 makes all a tie."""
    inner: PairwiseReward = self.wrapped
    value = finite_reward(await inner.prefer(prompt, one, other), inner, prompt, one)
    turned = 0.5 if self.scale == 0 else value if self.scale > 0 else 1 - value
    return combined(turned, [value] if isinstance(value, Scored) else [])


class Cached(Wrapper):
    """Remembers rewards, so that the same response to the same prompt is asked about once.

    The same is: equal prompt, response text and `Response.stop`. A reward that reads more of a
    response (tokens that its text does not tell, log-probabilities) must not be cached.

    Those who ask while the answer is under way wait for it; only the first has a cost. If the first
    is cancelled, another of them asks anew, and nobody else notices. If the reward fails, all who
    waited get the failure, and the next one asks again. Askers of different event loops share
    answers, but not calls under way. Values of steps and preferences are not remembered.

    Args:
        reward: what is asked.
        max_size: greatest number of answers kept; the one that was not wanted for longest goes
            first.

    Raises:
        ConfigError: if `max_size` is not a whole number of at least 1.
    """

    wrapped_as: ClassVar[str] = "reward"

    def __init__(self, reward: Reward, max_size: int = 10_000) -> None:
        self.reward: Reward = check_value("Cached", "reward", reward, Reward, A_REWARD)
        self.max_size = check_int(
            "Cached", "max_size", max_size, at_least(1, note="for no cache leave the wrapper out")
        )
        self._answers: OrderedDict[_Question, float] = OrderedDict()
        self._calls: dict[tuple[asyncio.AbstractEventLoop, _Question], _Call] = {}
        self._lock = threading.Lock()  # rewards may be asked from any thread's event loop

    async def score(self, prompt: Prompt, response: Response) -> float:
        """As the reward; what was remembered costs no tokens."""
        question = (prompt, response.text, response.stop)
        place = (asyncio.get_running_loop(), question)
        while True:
            with self._lock:
                if question in self._answers:
                    self._answers.move_to_end(question)
                    return Scored(self._answers[question])
                call = self._calls.get(place)
                if call is None:
                    mine = self._calls[place] = _Call()
                    break
            await call.ended.wait()
            if call.failure is not None:
                raise call.failure
            if call.answer is not None:
                return Scored(call.answer)
        try:
            value = await ask(self.reward, prompt, response)
            mine.answer = float(value)
            self._remember(question, mine.answer)
        except Exception as failure:
            mine.failure = failure
            raise
        finally:
            # also when cancelled: those who wait find neither answer nor failure, and one asks anew
            with self._lock:
                del self._calls[place]
            mine.ended.set()
        return value

    def close(self) -> None:
        """Closes the reward."""
        close_all([self.reward])

    def __repr__(self) -> str:
        return f"Cached({self.reward!r}, max_size={self.max_size})"

    def _remember(self, question: _Question, answer: float) -> None:
        with self._lock:
            self._answers[question] = answer
            if len(self._answers) > self.max_size:
                self._answers.popitem(last=False)


@dataclass(slots=True)
class _Call:
    """One call under way, for those who wait for its answer."""

    ended: asyncio.Event = field(default_factory=asyncio.Event)
    answer: float | None = None
    failure: Exception | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardStatistics:
    """What a reward was asked and what that cost, up to one moment.

    Attributes:
        calls: calls begun, failed and cancelled ones included.
        tokens: tokens that the reward model was given, where it tells (`Scored`).
        cached_tokens: how many of them its prefix cache had.
        seconds: waiting time, summed over ended calls; where calls overlap, each counts in full.
    """

    calls: int = 0
    tokens: int = 0
    cached_tokens: int = 0
    seconds: float = 0.0


class Metered(Wrapper):
    """Counts calls, tokens and seconds over a reward's whole life, whoever asks.

    What one run spends is in its `rsalign.core.budget.Usage`.

    Args:
        reward: what is asked; its values come back as they are.
    """

    wrapped_as: ClassVar[str] = "reward"

    def __init__(self, reward: Reward) -> None:
        self.reward: Reward = check_value("Metered", "reward", reward, Reward, A_REWARD)
        self._statistics = RewardStatistics()
        self._lock = threading.Lock()  # rewards may be asked from any thread's event loop

    async def score(self, prompt: Prompt, response: Response) -> float:
        """As the reward."""
        return await self._counted(self.reward.score(prompt, response))

    def statistics(self) -> RewardStatistics:
        """What was spent so far; the record does not change any more."""
        return self._statistics

    def close(self) -> None:
        """Closes the reward; the statistics stay."""
        close_all([self.reward])

    def __repr__(self) -> str:
        return f"Metered({self.reward!r})"

    async def _counted(self, call: Awaitable[T]) -> T:
        """Counts one call, and its cost when it is known."""
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
    """As the reward; one call."""
    inner: StepReward = self.wrapped
    return await self._counted(inner.score_steps(prompt, response, ends))


@Metered.implements(PairwiseReward)
async def metered_preference(
    self: Metered, prompt: Prompt, one: Response, other: Response
) -> float:
    """As the reward; one call."""
    inner: PairwiseReward = self.wrapped
    return await self._counted(inner.prefer(prompt, one, other))

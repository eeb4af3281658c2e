"""What a run may cost and what it did cost. Strategies know of neither."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import NoReturn

from rsalign.checks import above, at_least, check_settings, finite_reward, refused, shown
from rsalign.errors import PolicyError, RewardError
from rsalign.foreign import errors_as, told
from rsalign.key import Key
from rsalign.protocols import (
    Boundary,
    Likelihood,
    Loaded,
    Measuring,
    PairwiseReward,
    Policy,
    Reward,
    Scored,
    Shaped,
    StepReward,
    headroom,
    likelihood,
    measuring,
    sampling,
)
from rsalign.types import Candidate, Prompt, Response, Sampling, Segment, Stop, Tokens
from rsalign.wrapper import Wrapper


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Hard limits for one prompt; None is no limit.

    When one is reached, open requests are cancelled in the engine and the best complete answer so
    far comes back (or the longest partial one), flagged as expired; nothing raises. If it is not
    complete, `completion_tokens` may complete what was certain of it.

    Bounds: `policy_tokens` and `reward_calls` are never exceeded. A draw reserves its greatest
    length before it starts, and waits while others hold the rest; the last one is drawn with what
    is left. `seconds` is exceeded by the time that cancelling takes (one engine step), and by that
    of the completion.

    Attributes:
        policy_tokens: tokens drawn from the policy, discarded ones included.
        reward_calls: calls of the reward.
        seconds: wall-clock time.
        completion_tokens: held back from `policy_tokens`, so that an answer that is not complete
            when a limit is reached goes on from what was certain of it as the policy alone would,
            unjudged, by at most so many tokens and never beyond the strategy's `max_tokens`.
            0: it is left as it stands.

    Raises:
        ConfigError: if a limit is not a positive number, or nothing is left besides the completion.
    """

    policy_tokens: int | None = None
    reward_calls: int | None = None
    seconds: float | None = None
    completion_tokens: int = 0

    def __post_init__(self) -> None:
        none = "None is no limit"
        check_settings(
            self,
            policy_tokens=at_least(1, note=none),
            reward_calls=at_least(1, note=none),
            seconds=above(0.0, note=none),
            completion_tokens=at_least(0, note="0 completes nothing"),
        )
        if self.completion_tokens >= (self.policy_tokens or math.inf):
            raise refused(
                self,
                "completion_tokens",
                f"a whole number below policy_tokens={self.policy_tokens}, which it is a part of",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What was spent on one prompt.

    Attributes:
        policy_requests: requests to the engine.
        policy_tokens_drawn: tokens drawn, those of discarded and cancelled draws included.
        policy_tokens_kept: tokens of the answer.
        prompt_tokens: prefix tokens over all requests; a request for a later segment counts its
            whole prefix.
        cached_tokens: how many of these the engine had in its prefix cache.
        reward_calls: calls of the reward.
        reward_tokens: tokens that reward models were given.
        reward_cached_tokens: how many of these they had in their prefix caches.
        seconds: wall-clock time; replaying takes none.
        replayed: draws that a journal had. All of the above but the seconds count them, and its
            rewards, as if they had been asked for.
    """

    policy_requests: int = 0
    policy_tokens_drawn: int = 0
    policy_tokens_kept: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    reward_calls: int = 0
    reward_tokens: int = 0
    reward_cached_tokens: int = 0
    seconds: float = 0.0
    replayed: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        """Both together; seconds add up too."""
        return Usage(
            **{name: getattr(self, name) + getattr(other, name) for name in Usage.__slots__}
        )


@dataclass(slots=True)
class Meter:
    """Counts what one run spends, ends it when its budget is spent, and keeps the best so far.

    Attributes:
        budget: the limits.
        deadline: the scope that is cancelled when a limit is reached.
        best: the complete candidate with the highest reward.
        partial: the longest piece of an answer that was drawn but never judged complete.
    """

    prompt: Prompt
    budget: Budget
    deadline: asyncio.Timeout
    best: Candidate | None = None
    partial: Tokens = ()
    _usage: Usage = field(default_factory=Usage)
    _reserved: int = 0
    _released: asyncio.Event = field(default_factory=asyncio.Event)
    _started: float = field(default_factory=time.perf_counter)

    def usage(self, kept: int) -> Usage:
        """What was spent so far, by an answer of `kept` tokens."""
        seconds = time.perf_counter() - self._started
        return replace(self._usage, policy_tokens_kept=kept, seconds=seconds)

    def count(self, **amounts: int) -> None:
        """Adds to the named fields of `Usage`."""
        spent = self._usage
        self._usage = replace(
            spent, **{name: getattr(spent, name) + amount for name, amount in amounts.items()}
        )

    def replayed(self) -> None:
        """Counts one more draw that a journal had."""
        self.count(replayed=1)

    async def reserve(self, max_new_tokens: int) -> int:
        """Waits until so many tokens may be drawn; fewer if that is all that is left."""
        limit = self.budget.policy_tokens
        if limit is None:
            return max_new_tokens
        limit -= self.budget.completion_tokens
        while True:
            left = limit - self._usage.policy_tokens_drawn - self._reserved
            if left < max_new_tokens and self._reserved:
                self._released.clear()
                await self._released.wait()
                continue
            granted = min(left, max_new_tokens)
            if granted < 1:
                await self.expire()
            self._reserved += granted
            return granted

    def release(self, granted: int, drawn: int) -> None:
        """Ends a reservation: `drawn` of the `granted` tokens were used."""
        self.count(policy_tokens_drawn=drawn)
        if self.budget.policy_tokens is not None:
            self._reserved -= granted
            self._released.set()

    async def admit_reward_call(self) -> None:
        """Counts one more call of the reward, or ends the run."""
        limit = self.budget.reward_calls
        if limit is not None and self._usage.reward_calls >= limit:
            await self.expire()
        self.count(reward_calls=1)

    def count_cost(self, *values: float) -> None:
        """Counts what rewards cost, where they know it."""
        for value in values:
            if isinstance(value, Scored):
                self.count(reward_tokens=value.tokens, reward_cached_tokens=value.cached_tokens)

    async def expire(self) -> NoReturn:
        """Ends the run: cancels everything that is open."""
        loop = asyncio.get_running_loop()
        self.deadline.reschedule(loop.time())
        await loop.create_future()  # never done: the deadline cancels this very wait
        raise AssertionError("unreachable")

    def seen(self, candidate: Candidate) -> None:
        """Remembers a judged candidate, should the run end before the strategy does."""
        if candidate.response.complete and (
            self.best is None or candidate.reward > self.best.reward
        ):
            self.best = candidate

    def seen_partial(self, tokens: Tokens) -> None:
        """Remembers tokens that were drawn but could not be judged."""
        if len(tokens) > len(self.partial):
            self.partial = tokens


@dataclass(frozen=True, slots=True)
class MeteredPolicy(Wrapper):
    """A policy whose every token is counted.

    It is also the edge of the policy: whatever the inner one raises is a `PolicyError` here.
    """

    inner: Policy
    meter: Meter

    async def extend(
        self, prefix: Tokens, *, max_new_tokens: int, key: Key, boundary: Boundary | None = None
    ) -> Segment:
        """As the inner policy, within the budget."""
        return await self._draw(self.inner.extend, prefix, max_new_tokens, key, boundary)

    async def _draw(
        self,
        draw: Callable[..., Awaitable[Segment]],
        prefix: Tokens,
        max_new_tokens: int,
        key: Key,
        boundary: Boundary | None,
    ) -> Segment:
        granted = await self.meter.reserve(max_new_tokens)
        self.meter.count(policy_requests=1, prompt_tokens=len(prefix))
        response = prefix[len(self.meter.prompt.tokens) :]
        drawn = 0
        try:
            with errors_as(self._failed):
                segment = await draw(prefix, max_new_tokens=granted, key=key, boundary=boundary)
                drawn = segment.num_drawn
        except asyncio.CancelledError as cancelled:
            # an engine attaches what it had drawn when it was told to stop
            tokens: Tokens = getattr(cancelled, "drawn", ())
            drawn = len(tokens)
            self.meter.seen_partial(response + tokens)
            raise
        finally:
            self.meter.release(granted, drawn)
        self.meter.count(cached_tokens=segment.cached_tokens)
        if granted < max_new_tokens:
            segment = replace(segment, beyond=None)  # the budget may have cut it short
        if segment.stop is Stop.LENGTH and drawn == granted < max_new_tokens:
            self.meter.seen_partial(response + segment.tokens)
            await self.meter.expire()  # the budget cut this draw short, not the strategy
        return segment

    def text(self, tokens: Tokens) -> str:
        """As the inner policy."""
        with errors_as(self._failed):
            return self.inner.text(tokens)

    def _failed(self, failure: BaseException) -> PolicyError:
        return PolicyError(
            f"the policy {_kind(self.inner)} raised {told(failure)}", prompt=self.meter.prompt
        )


@MeteredPolicy.able(Loaded)
def headroom_within_budget(self: MeteredPolicy) -> float:
    """As the inner policy."""
    with errors_as(self._failed):
        return headroom(self.inner)


@MeteredPolicy.able(Shaped)
def sampling_within_budget(self: MeteredPolicy) -> Sampling:
    """As the inner policy."""
    with errors_as(self._failed):
        return sampling(self.inner)


@MeteredPolicy.able(Measuring)
async def measure(
    self: MeteredPolicy,
    prefix: Tokens,
    *,
    max_new_tokens: int,
    key: Key,
    boundary: Boundary | None = None,
) -> Segment:
    """As the inner policy, within the budget."""
    draw = measuring(self.inner).measure
    return await self._draw(draw, prefix, max_new_tokens, key, boundary)


@MeteredPolicy.able(Likelihood)
async def log_probs(self: MeteredPolicy, prefix: Tokens, tokens: Tokens) -> tuple[float, ...]:
    """As the inner policy, counted as one request."""
    self.meter.count(policy_requests=1, prompt_tokens=len(prefix) + len(tokens))
    with errors_as(self._failed):
        return await likelihood(self.inner).log_probs(prefix, tokens)


@dataclass(frozen=True, slots=True)
class MeteredReward(Wrapper):
    """A reward whose every call is counted.

    It is also the edge of the reward: whatever the inner one raises is a `RewardError` here.
    """

    inner: Reward
    meter: Meter

    async def score(self, prompt: Prompt, response: Response) -> float:
        """As the inner reward, within the budget."""
        self.meter.seen_partial(response.tokens)
        await self.meter.admit_reward_call()
        with errors_as(self._failed_on(prompt, response)):
            given = await self.inner.score(prompt, response)
            value = finite_reward(given, self.inner, prompt, response)
        self.meter.count_cost(given)
        self.meter.seen(Candidate(response, value))
        return value

    def _failed_on(
        self, prompt: Prompt, response: Response
    ) -> Callable[[BaseException], RewardError]:
        def failed(failure: BaseException) -> RewardError:
            return RewardError(
                f"the reward {_kind(self.inner)} raised {told(failure)} on "
                f"{shown(response.text)}: mend it, or catch what it may raise and return a number",
                prompt=prompt,
                response=response,
            )

        return failed


@MeteredReward.able(StepReward)
async def score_steps(
    self: MeteredReward, prompt: Prompt, response: Response, ends: tuple[int, ...]
) -> tuple[float, ...]:
    """As the inner reward, within the budget; one call."""
    self.meter.seen_partial(response.tokens)
    await self.meter.admit_reward_call()
    inner: StepReward = self.wrapped
    with errors_as(self._failed_on(prompt, response)):
        values = tuple(await inner.score_steps(prompt, response, ends))
    self.meter.count_cost(*values)
    return values


@MeteredReward.able(PairwiseReward)
async def prefer(self: MeteredReward, prompt: Prompt, one: Response, other: Response) -> float:
    """As the inner reward, within the budget; one call."""
    await self.meter.admit_reward_call()
    inner: PairwiseReward = self.wrapped
    with errors_as(self._failed_on(prompt, one)):
        value = await inner.prefer(prompt, one, other)
    self.meter.count_cost(value)
    return value


def _kind(part: Policy | Reward) -> str:
    """The name of its class, or of what it wraps (a journal may be between)."""
    return type(getattr(part, "inner", part)).__name__

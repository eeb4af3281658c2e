"""Counts what one run spends, ends it when its budget is spent, and keeps the best so far."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NoReturn

from rsalign.core.budget import Budget, Usage
from rsalign.core.capabilities import overdraws
from rsalign.core.checks import finite_reward, quote
from rsalign.core.errors import PolicyError, RewardError
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.key import Key, Label
from rsalign.core.protocols import (
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
    get_headroom,
    get_sampling,
    require_likelihood,
    require_measuring,
)
from rsalign.core.tasks import Turn, current_turn, num_open_before, wait_for_turn
from rsalign.core.text.detokenization import Detokenizer, Detokenizing
from rsalign.core.text.response_text import Guarded
from rsalign.core.types import Candidate, Prompt, Response, Sampling, Segment, Stop, Tokens
from rsalign.core.wrapper import Wrapper


@dataclass(slots=True)
class Meter:
    """Counts what one run spends, ends it when its budget is spent, and keeps the best so far.

    Attributes:
        budget: the limits.
        deadline: the scope that is cancelled when a limit is reached.
        finished: complete answers that were judged (or, in a run without a reward, drawn).
        unjudged: complete answers that were drawn and shown to the reward, judged or not.
        partial: the longest piece of an answer that was drawn but never judged complete.
    """

    prompt: Prompt
    budget: Budget
    deadline: asyncio.Timeout
    finished: list[Candidate] = field(default_factory=list)
    unjudged: list[Response] = field(default_factory=list)
    partial: Tokens = ()
    _usage: Usage = field(default_factory=Usage)
    _reserved: int = 0
    _released: asyncio.Event = field(default_factory=asyncio.Event)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _num_judging: int = 0
    _judged: asyncio.Event = field(default_factory=asyncio.Event)
    # an attempt that this run as a whole belongs to: only turns within the run matter to it
    _outside: Turn | None = field(default_factory=current_turn)
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

    @property
    def limits_tokens(self) -> bool:
        """Whether there is a limit to what is drawn."""
        return self.budget.policy_tokens is not None

    async def reserve(self, num_tokens: int) -> int:
        """Waits until so many tokens may be drawn; fewer if that is all that is left.

        Draws are served in the order in which they ask, so that a long one is not overtaken by
        short ones for ever. The last one gets what is left once no other draw is open.
        """
        if self.budget.policy_tokens is None:
            return num_tokens
        limit = self.budget.policy_tokens - self.budget.completion_tokens
        async with self._turn:  # asyncio's locks are fair
            while True:
                left = limit - self._usage.policy_tokens_drawn - self._reserved
                if left >= num_tokens or not self._reserved:
                    break
                self._released.clear()
                await self._released.wait()
            granted = max(0, min(left, num_tokens))
            self._reserved += granted
        if not granted:
            await self.expire()
        return granted

    def release(self, granted: int, drawn: int) -> None:
        """Ends a reservation: `drawn` of the `granted` tokens were used."""
        self.count(policy_tokens_drawn=drawn)
        if self.limits_tokens:
            self._reserved -= granted
            self._released.set()

    async def admit_reward_call(self) -> None:
        """Counts one more call of the reward, or ends the run.

        One of those left is kept for each earlier attempt of the same round, however fast a later
        one is (`rsalign.core.tasks.until`): the earlier one may be accepted, and this one dropped.
        """
        limit = self.budget.reward_calls
        if limit is not None:
            if limit - self._usage.reward_calls <= num_open_before(self._outside):
                await wait_for_turn(self._outside)
            if self._usage.reward_calls >= limit:
                await self.expire()
        self.count(reward_calls=1)

    @contextlib.contextmanager
    def judging(self) -> Iterator[None]:
        """While a call of the reward is open."""
        self._num_judging += 1
        try:
            yield
        finally:
            self._num_judging -= 1
            self._judged.set()

    def count_cost(self, *values: float) -> None:
        """Counts what rewards cost, where they know it."""
        for value in values:
            if isinstance(value, Scored):
                self.count(reward_tokens=value.tokens, reward_cached_tokens=value.cached_tokens)

    async def expire(self) -> NoReturn:
        """Ends the run: cancels everything that is open.

        Before that, earlier attempts of the same round are finished and looked at: if one of them
        is accepted, this one was not needed, and the run goes on
        (`rsalign.core.tasks.wait_for_turn`).
        Calls of the reward that are open were paid for, and what they judge was drawn: they may
        finish first.
        """
        await wait_for_turn(self._outside)
        while self._num_judging:
            self._judged.clear()
            await self._judged.wait()
        loop = asyncio.get_running_loop()
        if not self.deadline.expired():  # another draw, or the clock, may have been first
            self.deadline.reschedule(loop.time())
        await loop.create_future()  # never done: the deadline cancels this very wait
        raise AssertionError("unreachable")

    def seen(self, candidate: Candidate) -> None:
        """Remembers a judged candidate, should the run end before the strategy does."""
        if candidate.response.complete:
            self.finished.append(candidate)

    def seen_unjudged(self, response: Response) -> None:
        """Remembers what was drawn before the reward is asked about it."""
        if response.complete:
            self.unjudged.append(response)
        self.seen_partial(response.tokens)

    def seen_partial(self, tokens: Tokens) -> None:
        """Remembers tokens that were drawn but could not be judged."""
        if len(tokens) > len(self.partial):
            self.partial = tokens

    def best_finished(self, committed: Tokens) -> Candidate | None:
        """The judged answer with the highest reward; of equal ones that with the first address.

        Args:
            committed: what it must begin with.
        """
        candidates = [c for c in self.finished if c.tokens[: len(committed)] == committed]
        candidates.sort(key=lambda candidate: _order(candidate.response))
        # max() takes the first among equals
        return max(candidates, key=lambda candidate: candidate.reward, default=None)

    def first_unjudged(self, committed: Tokens) -> Response | None:
        """The complete answer with the first address, judged or not.

        Args:
            committed: what it must begin with.
        """
        responses = [r for r in self.unjudged if r.tokens[: len(committed)] == committed]
        return min(responses, key=_order, default=None)


def _order(response: Response) -> tuple[tuple[bool, Label], ...]:
    """Sorts responses by address: depends on what was drawn, not on which draw was faster."""
    return tuple((isinstance(label, str), label) for label in response.address)


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
        most = max_new_tokens
        stops = overdraws(self.inner)
        if boundary is not None and not stops:
            # one more than a segment may have tells "the segment is full" from "the budget is"
            most = min(most, boundary.max_tokens + (stops is None))
        granted = await self.meter.reserve(most)
        asked = max_new_tokens
        if self.meter.limits_tokens and (granted < most or stops is None):
            asked = granted
        self.meter.count(policy_requests=1, prompt_tokens=len(prefix))
        response = prefix[len(self.meter.prompt.tokens) :]
        drawn = 0
        try:
            with errors_as(self._failed):
                segment = await draw(prefix, max_new_tokens=asked, key=key, boundary=boundary)
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
        if drawn == asked < max_new_tokens:  # the budget may have cut it short, not the strategy
            segment = replace(segment, beyond=None)
            if segment.stop is Stop.LENGTH:
                self.meter.seen_partial(response + segment.tokens)
                await self.meter.expire()
        return segment

    def text(self, tokens: Tokens) -> str:
        """As the inner policy."""
        with errors_as(self._failed):
            return self.inner.text(tokens)

    def _failed(self, failure: BaseException) -> PolicyError:
        return PolicyError(
            f"the policy {_kind(self.inner)} raised {describe_error(failure)}",
            prompt=self.meter.prompt,
        )


@MeteredPolicy.implements(Detokenizing)
def detokenizer(self: MeteredPolicy, prompt: Tokens) -> Detokenizer:
    """As the inner policy."""
    with errors_as(self._failed):
        return Guarded(self.wrapped.detokenizer(prompt), self._failed)


@MeteredPolicy.implements(Detokenizing)
def token_text(self: MeteredPolicy, token: int) -> str:
    """As the inner policy."""
    with errors_as(self._failed):
        return str(self.wrapped.token_text(token))


@MeteredPolicy.implements(Loaded)
def headroom_within_budget(self: MeteredPolicy) -> float:
    """As the inner policy."""
    with errors_as(self._failed):
        return get_headroom(self.inner)


@MeteredPolicy.implements(Shaped)
def sampling_within_budget(self: MeteredPolicy) -> Sampling:
    """As the inner policy."""
    with errors_as(self._failed):
        return get_sampling(self.inner)


@MeteredPolicy.implements(Measuring)
async def measure(
    self: MeteredPolicy,
    prefix: Tokens,
    *,
    max_new_tokens: int,
    key: Key,
    boundary: Boundary | None = None,
) -> Segment:
    """As the inner policy, within the budget."""
    draw = require_measuring(self.inner).measure
    return await self._draw(draw, prefix, max_new_tokens, key, boundary)


@MeteredPolicy.implements(Likelihood)
async def log_probs(self: MeteredPolicy, prefix: Tokens, tokens: Tokens) -> tuple[float, ...]:
    """As the inner policy, counted as one request."""
    self.meter.count(policy_requests=1, prompt_tokens=len(prefix) + len(tokens))
    with errors_as(self._failed):
        return await require_likelihood(self.inner).log_probs(prefix, tokens)


@dataclass(frozen=True, slots=True)
class MeteredReward(Wrapper):
    """A reward whose every call is counted, and whose answers are remembered.

    It is also the edge of the reward: whatever the inner one raises is a `RewardError` here.

    Attributes:
        inner: judges; None where no reward was given: everything is then worth 0, and nothing is
            counted.
        meter: counts and remembers.
    """

    inner: Reward | None
    meter: Meter

    async def score(self, prompt: Prompt, response: Response) -> float:
        """As the inner reward, within the budget."""
        if self.inner is None:
            self.meter.seen(Candidate(response, 0.0))
            return 0.0
        self.meter.seen_unjudged(response)
        await self.meter.admit_reward_call()
        with self.meter.judging(), errors_as(self._failed_on(prompt, response)):
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
                f"the reward {_kind(self.inner)} raised {describe_error(failure)} on "
                f"{quote(response.text)}: mend it, or catch what it may raise and return a number",
                prompt=prompt,
                response=response,
            )

        return failed


@MeteredReward.implements(StepReward)
async def score_steps(
    self: MeteredReward, prompt: Prompt, response: Response, ends: tuple[int, ...]
) -> tuple[float, ...]:
    """As the inner reward, within the budget; one call."""
    self.meter.seen_unjudged(response)
    await self.meter.admit_reward_call()
    inner: StepReward = self.wrapped
    with self.meter.judging(), errors_as(self._failed_on(prompt, response)):
        values = tuple(await inner.score_steps(prompt, response, ends))
    self.meter.count_cost(*values)
    return values


@MeteredReward.implements(PairwiseReward)
async def prefer(self: MeteredReward, prompt: Prompt, one: Response, other: Response) -> float:
    """As the inner reward, within the budget; one call."""
    await self.meter.admit_reward_call()
    inner: PairwiseReward = self.wrapped
    with self.meter.judging(), errors_as(self._failed_on(prompt, one)):
        value = await inner.prefer(prompt, one, other)
    self.meter.count_cost(value)
    return value


def _kind(part: object) -> str:
    """The name of a part's class, or of what it wraps in the end (a journal may be between)."""
    return _kind(part.wrapped) if isinstance(part, Wrapper) else type(part).__name__

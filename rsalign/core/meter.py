"""Wrappers that report every draw and every reward of a run to its `rsalign.core.budget.Meter`."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from rsalign.core.budget import Meter
from rsalign.core.cancelled_draws import receive_cancelled_draws
from rsalign.core.capabilities import overdraws
from rsalign.core.checks import finite_reward, quote
from rsalign.core.errors import PolicyError, RewardError
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.key import Key
from rsalign.core.most_probable import GreedySegment, ListsTokens, require_listing
from rsalign.core.protocols import (
    Boundary,
    Likelihood,
    Loaded,
    Measuring,
    PairwiseReward,
    Policy,
    Reward,
    Shaped,
    StepReward,
    get_headroom,
    get_sampling,
    require_likelihood,
    require_measuring,
)
from rsalign.core.text.detokenization import Detokenizer, Detokenizing
from rsalign.core.text.reasoning import Dividing
from rsalign.core.text.response_text import Guarded
from rsalign.core.types import Candidate, Prompt, Response, Sampling, Segment, Stop, Tokens
from rsalign.core.wrapper import Wrapper


@dataclass(frozen=True, slots=True)
class MeteredPolicy(Wrapper):
    """A policy that charges every draw to a meter, and turns every failure into a `PolicyError`.

    Attributes:
        inner: the policy that draws.
        meter: counts the tokens and limits them.

    Example:
        >>> from rsalign import Budget
        >>> from rsalign.testing import ToyPolicy
        >>> async def draw_within(num_tokens):
        ...     async with asyncio.timeout(None) as deadline:
        ...         meter = Meter(Prompt((), (1,)), Budget(policy_tokens=num_tokens), deadline)
        ...         policy = MeteredPolicy(ToyPolicy(), meter)
        ...         await policy.extend((1,), max_new_tokens=1, key=Key(0))
        ...     return meter.usage(kept=1)
        >>> asyncio.run(draw_within(10)).policy_tokens_drawn
        1
    """

    inner: Policy
    meter: Meter

    async def extend(
        self, prefix: Tokens, *, max_new_tokens: int, key: Key, boundary: Boundary | None = None
    ) -> Segment:
        """Draws from the inner policy, within the budget."""
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
            # one token more than the segment may have: a draw of that length was stopped by the
            # budget, a shorter one by the boundary
            most = min(most, boundary.max_tokens + (stops is None))
        granted = await self.meter.reserve(most)
        asked = max_new_tokens
        if self.meter.limits_tokens and (granted < most or stops is None):
            asked = granted
        self.meter.count(policy_requests=1, prompt_tokens=len(prefix))
        num_prompt_tokens = len(self.meter.prompt.tokens)
        cancelled: list[tuple[Tokens, Tokens]] = []
        drawn = 0
        try:
            with (
                errors_as(self._failed),
                receive_cancelled_draws(lambda *report: cancelled.append(report)),
            ):
                segment = await draw(prefix, max_new_tokens=asked, key=key, boundary=boundary)
                drawn = segment.num_drawn
        except asyncio.CancelledError:
            drawn = sum(len(tokens) for _, tokens in cancelled)
            for continued, tokens in [(prefix, ()), *cancelled]:
                if continued[: len(prefix)] == prefix:  # else the policy has changed the prompt
                    self.meter.seen_partial((continued + tokens)[num_prompt_tokens:])
            raise
        finally:
            self.meter.release(granted, drawn)
        self.meter.count(cached_tokens=segment.cached_tokens)
        if drawn == asked < max_new_tokens:  # perhaps stopped by the budget alone
            segment = replace(segment, beyond=None)
            if segment.stop is Stop.LENGTH:
                self.meter.seen_partial(prefix[num_prompt_tokens:] + segment.tokens)
                await self.meter.expire()
        return segment

    def text(self, tokens: Tokens) -> str:
        """Decodes with the inner policy."""
        with errors_as(self._failed):
            return self.inner.text(tokens)

    def _failed(self, failure: BaseException) -> PolicyError:
        return PolicyError(
            f"the policy {_kind(self.inner)} raised {describe_error(failure)}",
            prompt=self.meter.prompt,
        )


@MeteredPolicy.implements(Detokenizing)
def detokenizer(self: MeteredPolicy, prompt: Tokens) -> Detokenizer:
    """Creates the inner policy's detokenizer; its failures become `PolicyError`, too."""
    with errors_as(self._failed):
        return Guarded(self.wrapped.detokenizer(prompt), self._failed)


@MeteredPolicy.implements(Detokenizing)
def token_text(self: MeteredPolicy, token: int) -> str:
    """Decodes one token with the inner policy."""
    with errors_as(self._failed):
        return str(self.wrapped.token_text(token))


@MeteredPolicy.implements(Dividing)
def divide(
    self: MeteredPolicy, prompt: Prompt, tokens: Tokens, text: str, *, complete: bool
) -> tuple[str, str | None]:
    """Divides a text with the inner policy; its failures become `PolicyError`, too."""
    inner: Dividing = self.wrapped
    with errors_as(self._failed):
        return inner.divide(prompt, tokens, text, complete=complete)


@MeteredPolicy.implements(Loaded)
def headroom_within_budget(self: MeteredPolicy) -> float:
    """The inner policy's headroom."""
    with errors_as(self._failed):
        return get_headroom(self.inner)


@MeteredPolicy.implements(Shaped)
def sampling_within_budget(self: MeteredPolicy) -> Sampling:
    """The inner policy's sampling settings."""
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
    """Draws from the inner policy and measures certainty, within the budget."""
    draw = require_measuring(self.inner).measure
    return await self._draw(draw, prefix, max_new_tokens, key, boundary)


@MeteredPolicy.implements(ListsTokens)
async def most_probable(
    self: MeteredPolicy, prefix: Tokens, *, max_new_tokens: int, num: int
) -> GreedySegment:
    """Decodes greedily with the inner policy, within the budget."""
    found: list[GreedySegment] = []

    async def draw(prefix: Tokens, *, max_new_tokens: int, **_: Any) -> Segment:
        listing = require_listing(self.inner)
        found.append(await listing.most_probable(prefix, max_new_tokens=max_new_tokens, num=num))
        return found[0].segment

    await self._draw(draw, prefix, max_new_tokens, Key(0), None)
    return found[0]


@MeteredPolicy.implements(Likelihood)
async def log_probs(self: MeteredPolicy, prefix: Tokens, tokens: Tokens) -> tuple[float, ...]:
    """Scores tokens with the inner policy; counts as one request."""
    self.meter.count(policy_requests=1, prompt_tokens=len(prefix) + len(tokens))
    with errors_as(self._failed):
        return await require_likelihood(self.inner).log_probs(prefix, tokens)


@dataclass(frozen=True, slots=True)
class MeteredJudge(Wrapper):
    """What compares responses or judges steps, charged to a meter; a failure is a `RewardError`.

    Attributes:
        inner: the judge.
        meter: counts the calls and limits them.
        called: what messages call it.
    """

    inner: Any
    meter: Meter
    called: str = "reward"

    def _failed_on(
        self, prompt: Prompt, response: Response
    ) -> Callable[[BaseException], RewardError]:
        def failed(failure: BaseException) -> RewardError:
            return RewardError(
                f"the {self.called} {_kind(self.inner)} raised {describe_error(failure)} on "
                f"{quote(response.text)}: fix it, or catch the error and return a number",
                prompt=prompt,
                response=response,
            )

        return failed


@dataclass(frozen=True, slots=True)
class MeteredReward(MeteredJudge):
    """A reward that charges every call to a meter, and turns every failure into a `RewardError`.

    Attributes:
        inner: the reward that scores. None if the run has no reward: every response then has the
            reward 0, and no call is counted.
        meter: counts the calls, limits them and remembers the scored responses.
        called: what messages call it.

    Example:
        >>> from rsalign import Budget
        >>> from rsalign.testing import ToyReward
        >>> async def score_once():
        ...     async with asyncio.timeout(None) as deadline:
        ...         meter = Meter(Prompt((), (1,)), Budget(), deadline)
        ...         response = Response((2, 0), "2", Stop.EOS)
        ...         await MeteredReward(ToyReward(), meter).score(meter.prompt, response)
        ...     return meter.usage(kept=2)
        >>> asyncio.run(score_once()).reward_calls
        1
    """

    async def score(self, prompt: Prompt, response: Response) -> float:
        """Scores with the inner reward, within the budget."""
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


@MeteredJudge.implements(StepReward)
async def score_steps(
    self: MeteredJudge, prompt: Prompt, response: Response, ends: tuple[int, ...]
) -> tuple[float, ...]:
    """Scores steps with the inner reward, within the budget; counts as one call."""
    self.meter.seen_unjudged(response)
    await self.meter.admit_reward_call()
    inner: StepReward = self.wrapped
    with self.meter.judging(), errors_as(self._failed_on(prompt, response)):
        values = tuple(await inner.score_steps(prompt, response, ends))
    self.meter.count_cost(*values)
    return values


@MeteredJudge.implements(PairwiseReward)
async def prefer(self: MeteredJudge, prompt: Prompt, one: Response, other: Response) -> float:
    """Compares with the inner reward, within the budget; counts as one call."""
    await self.meter.admit_reward_call()
    inner: PairwiseReward = self.wrapped
    with self.meter.judging(), errors_as(self._failed_on(prompt, one)):
        value = await inner.prefer(prompt, one, other)
    self.meter.count_cost(value)
    return value


def meter_part(part: Any, meter: Meter, name: str) -> Any:
    """Returns a named part of a run, of the same kind, that reports to a meter of its own."""
    if isinstance(part, Policy):
        return MeteredPolicy(part, meter)
    kind = MeteredReward if isinstance(part, Reward) else MeteredJudge
    return kind(part, meter, name)


def _kind(part: object) -> str:
    """Returns the name of a part's class, looking through wrappers (a journal, for example)."""
    return _kind(part.wrapped) if isinstance(part, Wrapper) else type(part).__name__

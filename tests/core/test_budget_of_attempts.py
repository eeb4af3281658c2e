"""A budget that a later parallel attempt hits ends nothing before the earlier ones were looked at.

Attempts run in parallel to save time. How many of them do (`Cards.proposals`, `Rejection.at_once`)
must not change the answer, and neither must it matter which of them is faster.
"""

import asyncio
import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsalign import Budget, Cards, FixedSize, Message, Prompt, Stop, align
from rsalign.core.tasks import concurrently, until
from rsalign.core.types import Segment
from rsalign.segments.acceptance import SoftAcceptance
from rsalign.segments.thresholds import Constant
from rsalign.strategies.rejection import Rejection
from rsalign.testing import ToyPolicy, ToyReward

PROMPT = Prompt((Message("user", "1"),), (1,))


async def wait(num_turns):
    for _ in range(num_turns):
        await asyncio.sleep(0)


def number(address):
    """Which attempt of its round a draw belongs to."""
    return address[address.index("try") + 1] if "try" in address else 0


class Uneven:
    """A policy whose attempt i takes ``delays[i % 4]`` turns of the event loop."""

    overdraws = False

    def __init__(self, delays):
        self.delays, self.inner = delays, ToyPolicy(5)

    async def extend(self, prefix, *, key, **how):
        await wait(self.delays[number(key.path) % 4])
        return await self.inner.extend(prefix, key=key, **how)

    def text(self, tokens):
        return self.inner.text(tokens)


class UnevenReward:
    """Likewise for judging."""

    def __init__(self, delays):
        self.delays = delays

    async def score(self, prompt, response):
        await wait(self.delays[number(response.address) % 4])
        return await ToyReward().score(prompt, response)


def run(strategy, *, policy=None, seed=0, draw=(0, 0, 0, 0), judge=(0, 0, 0, 0), **limits):
    async def main():
        async with asyncio.timeout(60):  # an attempt that waits for ever fails the test
            return await align(
                PROMPT,
                strategy,
                policy=policy or Uneven(draw),
                reward=UnevenReward(judge),
                budget=Budget(**limits),
                seed=seed,
            )

    return asyncio.run(main())


def cards(proposals, **settings):
    return Cards(
        segmenter=FixedSize(2),
        threshold=Constant(value=0.5),
        acceptance=SoftAcceptance(beta=0.5),
        max_tokens=8,
        max_tries=8,
        proposals=proposals,
        **settings,
    )


def rejection(at_once, bound=1.0):
    return Rejection(beta=0.5, bound=bound, max_tokens=5, max_draws=16, at_once=at_once)


DELAYS = st.lists(st.integers(0, 12), min_size=4, max_size=4)


@settings(max_examples=120, deadline=None)
@given(
    tokens=st.integers(8, 80),
    seed=st.integers(0, 10**6),
    draw=DELAYS,
    judge=DELAYS,
    when=st.sampled_from(["best", "last"]),
)
def test_how_many_proposals_run_at_once_does_not_change_the_answer(tokens, seed, draw, judge, when):
    """Of all that finish within the budget; none spends more than it may."""
    free = run(cards(1, when_exhausted=when), seed=seed)
    for proposals in (1, 2, 4, "auto"):
        strategy = cards(proposals, when_exhausted=when)
        result = run(strategy, seed=seed, draw=draw, judge=judge, policy_tokens=tokens)
        assert result.usage.policy_tokens_drawn <= tokens
        if not result.expired:
            assert result.candidate == free.candidate
        else:
            assert result.candidate.tokens[: len(result.trace.committed)] == result.trace.committed
        # segments that were taken before the budget ended the run are those of the free run
        kept = result.trace.committed
        assert kept == free.candidate.tokens[: len(kept)]


@settings(max_examples=80, deadline=None)
@given(calls=st.integers(1, 24), seed=st.integers(0, 10**6), draw=DELAYS, judge=DELAYS)
def test_nor_does_it_where_calls_of_the_reward_are_limited(calls, seed, draw, judge):
    free = run(cards(1), seed=seed)
    for proposals in (1, 2, 4, "auto"):
        result = run(cards(proposals), seed=seed, draw=draw, judge=judge, reward_calls=calls)
        assert result.usage.reward_calls <= calls
        kept = result.trace.committed
        assert kept == free.candidate.tokens[: len(kept)]
        if not result.expired:
            assert result.candidate == free.candidate


def num_tested(at_once, seed):
    return run(rejection(at_once), seed=seed).trace.notes["num_tested"]


@settings(max_examples=80, deadline=None)
@given(calls=st.integers(1, 20), seed=st.integers(0, 10**6), draw=DELAYS, judge=DELAYS)
def test_a_limit_of_reward_calls_ends_rejection_at_the_same_attempt(calls, seed, draw, judge):
    """A faster later attempt takes no call that an earlier one needs, whatever `at_once` is."""
    one, free = run(rejection(1), seed=seed, reward_calls=calls), run(rejection(1), seed=seed)
    assert one.expired == (free.trace.notes["num_tested"] > calls)
    for at_once in (2, 3, 4):
        result = run(rejection(at_once), seed=seed, draw=draw, judge=judge, reward_calls=calls)
        assert result.usage.reward_calls <= calls
        assert result.expired == one.expired
        assert result.candidate == one.candidate
        assert result.trace.forced == one.trace.forced


@settings(max_examples=80, deadline=None)
@given(more=st.integers(0, 12), seed=st.integers(0, 10**6), draw=DELAYS, judge=DELAYS)
def test_an_attempt_that_had_room_is_finished_and_looked_at(more, seed, draw, judge):
    """Room is reserved in order: what a later attempt lacks costs the earlier ones nothing."""
    free = run(rejection(1), seed=seed)
    for at_once in (2, 3, 4):
        tested = free.trace.notes["num_tested"]
        first = (tested - 1) // at_once * at_once  # of the round in which one is accepted
        before = [len(p.candidate.tokens) for p in free.trace.proposals[:first]]
        enough = sum(before) + 5 * (tested - first)
        if before and first + at_once > 16:
            continue
        result = run(
            rejection(at_once), seed=seed, draw=draw, judge=judge, policy_tokens=enough + more
        )
        assert result.usage.policy_tokens_drawn <= enough + more
        assert not result.expired
        assert result.candidate == free.candidate


@pytest.mark.parametrize("proposals", [2, 4, 8])
@pytest.mark.parametrize("limit", ["policy_tokens", "reward_calls"])
def test_the_first_attempt_is_the_answer_although_all_others_find_nothing_left(proposals, limit):
    """They are faster, and are told so while the first one is still being drawn or judged."""
    whole = Cards(
        segmenter=FixedSize(8),
        threshold=Constant(value=-9.0),
        max_tokens=8,
        proposals=proposals,
    )
    for strategy, seed in itertools.product((whole, rejection(proposals, bound=-9.0)), range(5)):
        free = run(strategy, seed=seed)
        first = free.trace.proposals[0].candidate
        limits = {
            "policy_tokens": {"policy_tokens": len(first.tokens) + 1},
            "reward_calls": {"reward_calls": 1},
        }[limit]
        result = run(strategy, seed=seed, draw=(9, 0, 0, 0), judge=(9, 0, 0, 0), **limits)
        assert not result.expired
        assert result.candidate == free.candidate == first


def test_if_no_earlier_attempt_is_accepted_the_budget_ends_the_run():
    """Whatever earlier attempts were rejected for; the best of them comes back."""
    for seed in range(6):
        strategy = rejection(4, bound=99.0)  # accepts nothing
        result = run(strategy, seed=seed, judge=(9, 5, 0, 0), reward_calls=3)
        assert result.expired
        assert result.usage.reward_calls == 3
        assert [p.verdict for p in result.trace.proposals[:3]] == ["rejected"] * 3
        assert result.trace.forced


@dataclass(frozen=True)
class Attempts:
    """Attempts of one's own: number i makes `draws` drafts one after another, the last counts."""

    accepts: int
    at_once: int = 3
    draws: int = 2

    async def sample(self, prompt, run):
        async def attempt(i):
            for j in range(self.draws):
                here = run.at("try", i, "part", j)
                drafts = await concurrently([here.draft(prompt, (), max_tokens=4)])
            return i, drafts[0]

        tested = await until(map(attempt, range(self.at_once)), lambda one: one[0] == self.accepts)
        return tested[-1][1]


@dataclass(frozen=True)
class Nested:
    """Attempts, each of which has attempts of its own."""

    accepts: tuple

    async def sample(self, prompt, run):
        async def attempt(i):
            inner = Attempts(accepts=self.accepts[1], draws=1)
            return i, await inner.sample(prompt, run.at("outer", i))

        tested = await until(map(attempt, range(3)), lambda one: one[0] == self.accepts[0])
        return tested[-1][1]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), draw=DELAYS, judge=DELAYS, limit=st.integers(1, 60))
def test_attempts_of_several_draws_and_nested_ones_are_held_back_too(seed, draw, judge, limit):
    for strategy in (
        Attempts(accepts=0),
        Attempts(accepts=2),
        Nested(accepts=(0, 0)),
        Nested(accepts=(1, 2)),
    ):
        free = run(strategy, seed=seed)
        for limits in ({"policy_tokens": limit}, {"reward_calls": limit}):
            result = run(strategy, seed=seed, draw=draw, judge=judge, **limits)
            assert result.usage.policy_tokens_drawn <= limits.get("policy_tokens", 10**6)
            assert result.usage.reward_calls <= limits.get("reward_calls", 10**6)
            if not result.expired:
                assert result.candidate == free.candidate


def test_a_nested_attempt_waits_for_the_outer_ones_as_well():
    """The first inner attempt of the second outer one is not first of all."""
    for seed in range(5):
        strategy = Nested(accepts=(0, 0))
        free = run(strategy, seed=seed)
        result = run(strategy, seed=seed, draw=(9, 9, 9, 9), judge=(3, 0, 0, 0), reward_calls=1)
        assert not result.expired
        assert result.candidate == free.candidate


def test_a_run_inside_an_attempt_has_a_budget_of_its_own():
    """It ends when that is spent: attempts outside of it may be waiting for its result."""

    async def main():
        inner_done = asyncio.Event()

        async def attempt(i):
            if i == 0:
                await inner_done.wait()
                return None
            result = await align(
                PROMPT,
                rejection(4, bound=99.0),
                policy=ToyPolicy(5),
                reward=ToyReward(),
                budget=Budget(reward_calls=2),
            )
            inner_done.set()
            return result

        async with asyncio.timeout(60):
            return await until(map(attempt, range(2)), lambda result: result is not None)

    _, result = asyncio.run(main())
    assert result.expired
    assert result.usage.reward_calls == 2


@dataclass(frozen=True)
class Long(ToyPolicy):
    """Never ends before its greatest length."""

    async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
        return Segment((1,) * max_new_tokens, None, Stop.LENGTH)


def test_an_attempt_that_finds_nothing_left_does_not_block_the_draws_of_earlier_ones():
    """The first one asks for room again while the others wait for their turn to end the run."""
    asked = []

    @dataclass(frozen=True)
    class Own:
        async def sample(self, prompt, run):
            async def attempt(i):
                if i == 0:
                    await run.at("try", 0, "part", 0).draft(prompt, (), max_tokens=4)
                    await wait(20)
                asked.append(i)
                return await run.at("try", i, "part", 1).draft(prompt, (), max_tokens=4)

            return (await until(map(attempt, range(4)), lambda draft: True))[-1]

    result = run(Own(), policy=Long(5), policy_tokens=8)
    assert asked == [1, 2, 3, 0]
    assert result.expired
    assert result.usage.policy_tokens_drawn == 8
    assert result.candidate.tokens == (1, 1, 1, 1)
    assert result.judged

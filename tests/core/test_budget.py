"""Budgets are hard for a strategy that knows nothing of them."""

import asyncio
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsalign import (
    BestOf,
    Budget,
    ConfigError,
    FixedSize,
    Key,
    Message,
    Plain,
    Prompt,
    RewardError,
    Segment,
    Stop,
    align,
)
from rsalign.core.budget import Meter
from rsalign.core.cancelled_draws import report_cancelled_draw
from rsalign.core.meter import MeteredReward
from rsalign.core.tasks import concurrently
from rsalign.core.types import Response
from rsalign.segments.acceptance import SoftAcceptance
from rsalign.segments.thresholds import Constant
from rsalign.strategies.cards import Cards
from rsalign.strategies.rejection import Rejection
from rsalign.testing import ToyPolicy, ToyReward

PROMPT = Prompt((Message("user", "1"),), (1,))


def run(strategy, budget, policy=None, reward=None, seed=0):
    return asyncio.run(
        align(
            PROMPT,
            strategy,
            policy=policy or ToyPolicy(6),
            reward=reward or ToyReward(),
            budget=budget,
            seed=seed,
        )
    )


@pytest.mark.parametrize(
    "wrong",
    [
        *({"policy_tokens": value} for value in (0, -1, 1.5, True, "9")),
        *({"reward_calls": value} for value in (0, -3, 2.0, False)),
        *({"seconds": value} for value in (0, -1, math.nan, math.inf, "1")),
    ],
)
def test_invalid_budgets_are_refused(wrong):
    with pytest.raises(ConfigError, match=f"Budget\\({next(iter(wrong))}="):
        Budget(**wrong)


@settings(max_examples=40, deadline=None)
@given(
    tokens=st.integers(1, 60), n=st.integers(1, 8), length=st.integers(1, 12), seed=st.integers()
)
def test_tokens_are_never_exceeded(tokens, n, length, seed):
    strategy = BestOf(n=n, inner=Plain(max_tokens=length))
    free = run(strategy, None, seed=seed)
    result = run(strategy, Budget(policy_tokens=tokens), seed=seed)
    assert result.usage.policy_tokens_drawn <= tokens
    if free.usage.policy_tokens_drawn > tokens:
        assert result.expired
    if not result.expired:
        assert result.candidate == free.candidate
    elif result.judged:
        assert result.candidate.response.complete


@pytest.mark.parametrize("calls", [1, 2, 5])
def test_reward_calls_are_never_exceeded(calls):
    asked = []

    class Counting(ToyReward):
        async def score(self, prompt, response):
            asked.append(response)
            return await super().score(prompt, response)

    result = run(
        BestOf(n=8, inner=Plain(max_tokens=4)), Budget(reward_calls=calls), reward=Counting()
    )
    assert len(asked) == calls == result.usage.reward_calls
    assert result.expired
    best = max(asyncio.run(ToyReward().score(PROMPT, response)) for response in asked)
    assert result.reward == best


class Sluggish(ToyPolicy):
    async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
        if key.path[-2:] != ("completion", "draw"):
            await asyncio.sleep(0.005)
        return await super().extend(
            prefix, max_new_tokens=max_new_tokens, key=key, boundary=boundary
        )


class Slow(ToyPolicy):
    async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
        if key.path[1:2] != (0,):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                report_cancelled_draw(prefix, (1, 2, 3))
                raise
        return await super().extend(
            prefix, max_new_tokens=max_new_tokens, key=key, boundary=boundary
        )


class Always(Slow):
    async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
        return await super().extend(prefix, max_new_tokens=max_new_tokens, key=Key(0).child(9))


def test_seconds_return_the_best_so_far():
    result = run(BestOf(n=3, inner=Plain(max_tokens=4)), Budget(seconds=0.1), Slow(4))
    assert result.expired
    assert result.judged
    assert result.candidate.response.complete
    assert result.usage.seconds < 10
    # what the two cancelled draws had drawn is spent
    assert result.usage.policy_tokens_drawn == len(result.candidate.tokens) + 6


class Retold:
    """A policy around another one, which knows nothing but the two methods of `Policy`.

    It draws in a task of its own, and raises a `CancelledError` of its own when it is cancelled.
    """

    def __init__(self, inner):
        self.inner = inner

    async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
        draw = self.inner.extend(prefix, max_new_tokens=max_new_tokens, key=key, boundary=boundary)
        task = asyncio.ensure_future(draw)
        try:
            return await task
        except asyncio.CancelledError:
            await asyncio.wait([task])
        raise asyncio.CancelledError

    def text(self, tokens):
        return self.inner.text(tokens)


def test_a_wrapper_that_knows_nothing_of_it_loses_no_token_of_a_cancelled_draw():
    result = run(BestOf(n=3, inner=Plain(max_tokens=4)), Budget(seconds=0.1), Retold(Slow(4)))
    assert result.expired
    assert result.usage.policy_tokens_drawn == len(result.candidate.tokens) + 6


def test_a_cancelled_draw_behind_another_one_of_the_same_call_is_kept_as_it_stands():
    class InTwo(Retold):
        async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
            return await super().extend((*prefix, 2), max_new_tokens=3, key=key)

    result = run(Plain(max_tokens=4), Budget(seconds=0.05), InTwo(Always(4)))
    assert result.expired
    assert result.candidate.tokens == (2, 1, 2, 3)


def test_a_policy_that_cannot_tell_what_it_had_drawn_has_drawn_nothing():
    class Silent(ToyPolicy):
        async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
            await asyncio.sleep(60)

    result = run(Plain(max_tokens=4), Budget(seconds=0.05), Silent(4))
    assert result.expired
    assert result.usage.policy_tokens_drawn == 0
    assert result.candidate.tokens == ()


def test_without_a_complete_answer_the_longest_partial_one_comes_back():
    class Never(Slow):
        async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
            return await super().extend(
                prefix, max_new_tokens=max_new_tokens, key=key.child(9), boundary=boundary
            )

    result = run(Plain(max_tokens=4), Budget(seconds=0.05), Never(4, salt=1))
    assert result.expired
    assert result.reward is None
    assert result.candidate.tokens == (1, 2, 3)
    assert result.candidate.response.stop is None


def test_a_draw_cut_by_the_budget_is_not_taken_for_a_complete_one():
    policy = ToyPolicy(50)  # EOS is rare
    result = run(Plain(max_tokens=40), Budget(policy_tokens=5), policy)
    assert result.expired
    assert result.reward is None
    assert len(result.candidate.tokens) == 5


def test_a_timeout_of_the_rewards_own_is_no_expiry():
    class Impatient(ToyReward):
        async def score(self, prompt, response):
            raise TimeoutError("the judge did not answer")

    with pytest.raises(RewardError, match="TimeoutError: the judge did not answer"):
        run(Plain(max_tokens=2), Budget(seconds=50), reward=Impatient())


def test_usage_counts_everything():
    result = run(BestOf(n=3, inner=Plain(max_tokens=4)), None)
    drawn = [p.candidate.tokens for p in result.trace.proposals]
    assert result.usage.policy_requests == result.usage.reward_calls == 3
    assert result.usage.policy_tokens_drawn == sum(map(len, drawn))
    assert result.usage.policy_tokens_kept == len(result.candidate.tokens)
    assert result.usage.prompt_tokens == 3 * len(PROMPT.tokens)


def test_a_strategy_that_needs_no_reward_runs_without():
    result = asyncio.run(align(PROMPT, Plain(max_tokens=3), policy=ToyPolicy()))
    assert result.reward is None
    assert result.candidate.response.stop in (Stop.EOS, Stop.LENGTH)
    with pytest.raises(ConfigError, match="BestOf needs a reward"):
        asyncio.run(align(PROMPT, BestOf(n=2), policy=ToyPolicy()))


class Watched:
    """A toy policy of one's own that tells how many of its draws are open at once.

    Attributes:
        overdraws: what it says of itself; None says nothing.
        past: how many tokens it draws past a segment's greatest size.
    """

    def __init__(self, overdraws=None, past=0):
        if overdraws is not None:
            self.overdraws = overdraws
        self.past, self.open, self.most, self.asked = past, 0, 0, []

    async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
        self.open += 1
        self.most = max(self.most, self.open)
        self.asked.append(max_new_tokens)
        try:
            for _ in range(4):
                await asyncio.sleep(0)
            size = boundary and FixedSize(boundary.max_tokens + self.past)
            drawn = await ToyPolicy(50).extend(
                prefix, max_new_tokens=max_new_tokens, key=key, boundary=size
            )
        finally:
            self.open -= 1
        if self.past and boundary and len(drawn.tokens) > boundary.max_tokens:
            return drawn.cut(boundary.max_tokens)
        return drawn

    def text(self, tokens):
        return ToyPolicy().text(tokens)


SEGMENTS = Cards(
    segmenter=FixedSize(4),
    threshold=Constant(value=9.0),
    acceptance=SoftAcceptance(beta=0.5),
    max_tokens=256,
    max_tries=16,
    proposals=8,
)


@pytest.mark.parametrize(
    ("overdraws", "past", "limit", "most"),
    [
        (False, 0, None, 8),
        (False, 0, 300, 8),
        (False, 0, 32, 8),  # 8 segments of 4
        (False, 0, 31, 7),
        (False, 0, 15, 3),
        (False, 0, 4, 1),
        (None, 0, 300, 8),
        (None, 0, 40, 8),  # unknown policies may take one token more
        (None, 0, 39, 7),
        (None, 99, 300, 8),
        (True, 99, 300, 1),
        (True, 99, 511, 1),
        (True, 99, 512, 2),
    ],
)
def test_a_segment_reserves_what_it_can_take(overdraws, past, limit, most):
    policy = Watched(overdraws, past)
    budget = None if limit is None else Budget(policy_tokens=limit)
    result = run(SEGMENTS, budget, policy)
    assert policy.most == most
    if limit is not None:
        assert limit - 4 < result.usage.policy_tokens_drawn <= limit


@settings(max_examples=60, deadline=None)
@given(
    limit=st.integers(1, 80),
    overdraws=st.sampled_from([None, False, True]),
    past=st.sampled_from([0, 1, 3, 99]),
    seed=st.integers(0, 1000),
)
def test_no_policy_exceeds_the_limit(limit, overdraws, past, seed):
    """Nor one that draws past its segments and does not say so."""
    policy = Watched(overdraws, 0 if overdraws is False else past)
    result = run(SEGMENTS, Budget(policy_tokens=limit), policy, seed=seed)
    assert result.usage.policy_tokens_drawn <= limit


@pytest.mark.parametrize(("overdraws", "past"), [(False, 0), (None, 0), (True, 99)])
def test_a_budget_that_is_large_enough_changes_nothing(overdraws, past):
    cards = Cards(segmenter=FixedSize(3), threshold=Constant(value=0.5), max_tokens=20, proposals=3)
    for seed in range(6):
        free = run(cards, None, Watched(overdraws, past), seed=seed)
        bound = run(cards, Budget(policy_tokens=10**6), Watched(overdraws, past), seed=seed)
        assert not bound.expired
        assert bound.candidate == free.candidate
        assert bound.trace.proposals == free.trace.proposals


def test_a_reward_call_that_is_open_when_the_budget_ends_may_finish():
    class Slow:
        async def score(self, prompt, response):
            await asyncio.sleep(0.01)
            return 1.0

    async def expire():
        try:
            async with asyncio.timeout(None) as deadline:
                meter = Meter(PROMPT, Budget(policy_tokens=4), deadline)
                reward = MeteredReward(Slow(), meter)
                scored = asyncio.ensure_future(
                    reward.score(PROMPT, Response((2, 0), "2", Stop.EOS))
                )
                await asyncio.sleep(0)
                await meter.expire()
        except TimeoutError:
            return [candidate.reward for candidate in meter.finished], await scored

    assert asyncio.run(expire()) == ([1.0], 1.0)


def test_draws_are_served_in_order_and_the_last_gets_what_is_left():
    """A long draw is not overtaken by short ones that ask later and would fit."""

    class Own:
        async def sample(self, prompt, run):
            lengths = (10, 10, 30, 1, 1)
            drafts = [
                run.at("i", i).draft(prompt, (), max_tokens=length)
                for i, length in enumerate(lengths)
            ]
            return (await concurrently(drafts))[0]

    policy = Watched()
    result = run(Own(), Budget(policy_tokens=40), policy)
    spent = [
        len(asyncio.run(ToyPolicy(50).extend((1,), max_new_tokens=10, key=key)).tokens)
        for key in (Key(0, ("i", 0, "draw")), Key(0, ("i", 1, "draw")))
    ]
    assert sum(spent) > 10  # or there would be room for all
    # 20 are held and 20 are left: the third waits, and the two behind it with it
    assert policy.asked[:3] == [10, 10, 40 - sum(spent)]
    assert policy.most == 2
    assert result.expired
    assert result.usage.policy_tokens_drawn <= 40


def test_two_draws_that_find_nothing_left_end_the_run_once():
    """Whoever comes second, a draw or the clock, adds nothing."""
    for limit in range(1, 40):
        result = run(SEGMENTS, Budget(policy_tokens=limit, seconds=30.0), Watched(False))
        assert result.expired


@settings(max_examples=60, deadline=None)
@given(tokens=st.integers(5, 60), seed=st.integers(0, 10**6))
def test_what_was_committed_is_never_contradicted(tokens, seed):
    """A complete draft that was rejected is no answer once another segment was streamed."""
    cards = Cards(
        segmenter=FixedSize(2),
        threshold=Constant(value=0.5),
        acceptance=SoftAcceptance(beta=0.3),
        max_tokens=12,
        max_tries=8,
    )
    streamed = []
    result = asyncio.run(
        align(
            PROMPT,
            cards,
            policy=ToyPolicy(6),
            reward=ToyReward(),
            budget=Budget(policy_tokens=tokens),
            seed=seed,
            on_commit=streamed.extend,
        )
    )
    assert result.candidate.tokens[: len(streamed)] == tuple(streamed)
    if not result.expired:
        assert result.candidate.tokens == tuple(streamed)


@settings(max_examples=40, deadline=None)
@given(tokens=st.integers(3, 40), held=st.integers(1, 2), seed=st.integers(0, 10_000))
def test_what_was_accepted_is_completed_within_the_limit(tokens, held, seed):
    strategy = Cards(
        segmenter=FixedSize(2),
        threshold=Constant(value=5.0),
        acceptance=SoftAcceptance(beta=2.0),
        max_tokens=9,
        max_tries=4,
    )
    streamed = []
    budget = Budget(policy_tokens=tokens, completion_tokens=held)
    result = asyncio.run(
        align(
            PROMPT,
            strategy,
            policy=ToyPolicy(6),
            reward=ToyReward(),
            budget=budget,
            seed=seed,
            on_commit=streamed.append,
        )
    )
    cut = run(strategy, Budget(policy_tokens=tokens - held), seed=seed)
    assert result.usage.policy_tokens_drawn <= tokens
    assert result.expired == cut.expired
    if not cut.expired or cut.candidate.response.complete:
        assert result.candidate == cut.candidate
        return
    assert tuple(token for piece in streamed for token in piece) == result.candidate.tokens
    kept = len(cut.candidate.tokens)
    more = result.candidate.tokens[kept:]
    assert result.candidate.tokens[:kept] == cut.candidate.tokens
    assert not result.judged
    assert 1 <= len(more) <= held
    assert len(result.candidate.tokens) <= strategy.max_tokens
    ended = more[-1] == 0 or len(result.candidate.tokens) == strategy.max_tokens
    assert result.candidate.response.complete == ended
    if len(more) < held:
        assert ended
    # it is what the policy draws from there, and nothing else
    drawn = asyncio.run(
        ToyPolicy(6).extend(
            PROMPT.tokens + cut.candidate.tokens,
            max_new_tokens=len(more),
            key=Key(seed).child("completion", "draw"),
        )
    )
    assert drawn.tokens == more


@pytest.mark.parametrize("held", [-1, 1.5, 10, 11])
def test_a_completion_must_fit_into_the_limit(held):
    with pytest.raises(ConfigError, match="completion_tokens"):
        Budget(policy_tokens=10, completion_tokens=held)


class Endless(ToyPolicy):
    """Never draws an end: a response stops at its greatest length only."""

    async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
        size = min(max_new_tokens, boundary.max_tokens) if boundary else max_new_tokens
        stop = Stop.LENGTH if size == max_new_tokens else Stop.BOUNDARY
        return Segment((1,) * size, None, stop)


@pytest.mark.parametrize("nested", [False, True])
def test_a_completion_ends_where_the_strategys_answers_end(nested):
    """Also where the strategy that has the limit is inside of another."""
    cards = Cards(segmenter=FixedSize(1), threshold=Constant(value=-9.0), max_tokens=8)
    strategy = BestOf(n=1, inner=cards) if nested else cards
    budget = Budget(policy_tokens=12, completion_tokens=9)
    result = run(strategy, budget, policy=Endless(4))
    assert result.expired
    assert len(result.candidate.tokens) == 8
    assert result.candidate.response.stop is Stop.LENGTH


def test_what_an_inner_strategy_was_forced_to_take_is_warned_of():
    """The outer one accepts the same answer, which makes it no less forced."""
    inner = Rejection(beta=0.1, bound=99.0, max_draws=2, max_tokens=6)
    result = run(BestOf(n=1, inner=inner), Budget())
    assert any("1 of 1 segments or answers were forced" in each for each in result.warnings)


def test_a_deadline_completes_too():
    strategy = Cards(segmenter=FixedSize(1), threshold=Constant(value=-9.0), max_tokens=400)
    budget = Budget(seconds=0.02, completion_tokens=400)
    result = run(strategy, budget, policy=Sluggish(200))
    assert result.expired
    assert result.candidate.response.complete


def test_a_draw_cut_in_mid_suffix_comes_back_behind_what_it_continues():
    """What is inside of `BestOf` commits nothing, and no whole answer has been judged."""

    class Hangs(ToyPolicy):
        async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
            if len(prefix) > 1:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    report_cancelled_draw(prefix, (1, 2, 3))
                    raise
            return await super().extend(
                prefix, max_new_tokens=max_new_tokens, key=key, boundary=boundary
            )

    inner = Cards(
        segmenter=FixedSize(2),
        threshold=Constant(value=-99.0),
        acceptance=SoftAcceptance(beta=1.0),
        max_tokens=8,
    )
    result = run(BestOf(n=1, inner=inner), Budget(seconds=0.1), Hangs(50))
    first = run(BestOf(n=1, inner=inner), None, ToyPolicy(50)).candidate.tokens[:2]
    assert result.expired
    assert result.candidate.tokens == (*first, 1, 2, 3)


def test_of_equally_good_answers_the_first_that_was_judged_comes_back():
    asked = []

    class Level(ToyReward):
        async def score(self, prompt, response):
            asked.append(response.tokens)
            return 0.5

    result = run(BestOf(n=8, inner=Plain(max_tokens=6)), Budget(reward_calls=5), reward=Level())
    assert result.expired
    assert len(set(asked)) > 1
    assert asked[0] != asked[-1]
    assert result.candidate.tokens == asked[0]


def test_asking_for_likelihoods_counts_the_tokens_that_are_asked_about():
    class Asks:
        needs_reward = False

        async def sample(self, prompt, run):
            drawn = await run.at("first").draft(prompt, (), max_tokens=5)
            before = await run.policy.log_probs(prompt.tokens, drawn.tokens)
            assert len(before) == len(drawn.tokens)
            return drawn

    usage = run(Asks(), None).usage
    assert usage.policy_requests == 2
    assert usage.policy_tokens_drawn == usage.policy_tokens_kept > 0
    assert usage.prompt_tokens == len(PROMPT.tokens) * 2 + usage.policy_tokens_kept

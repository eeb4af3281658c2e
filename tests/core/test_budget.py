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
    Stop,
    align,
)
from rsalign.rules.acceptance import Soft
from rsalign.rules.thresholds import Constant
from rsalign.strategies.cards import Cards
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
            except asyncio.CancelledError as cancelled:
                cancelled.drawn = (1, 2, 3)
                raise
        return await super().extend(
            prefix, max_new_tokens=max_new_tokens, key=key, boundary=boundary
        )


def test_seconds_return_the_best_so_far():
    result = run(BestOf(n=3, inner=Plain(max_tokens=4)), Budget(seconds=0.1), Slow(4))
    assert result.expired
    assert result.judged
    assert result.candidate.response.complete
    assert result.usage.seconds < 10
    # what the two cancelled draws had drawn is spent
    assert result.usage.policy_tokens_drawn == len(result.candidate.tokens) + 6


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


@settings(max_examples=60, deadline=None)
@given(tokens=st.integers(5, 60), seed=st.integers(0, 10**6))
def test_what_was_committed_is_never_contradicted(tokens, seed):
    """A complete draft that was rejected is no answer once another segment was streamed."""
    cards = Cards(
        segmenter=FixedSize(2),
        threshold=Constant(value=0.5),
        acceptance=Soft(beta=0.3),
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
        acceptance=Soft(beta=2.0),
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
                except asyncio.CancelledError as cancelled:
                    cancelled.drawn = (1, 2, 3)
                    raise
            return await super().extend(
                prefix, max_new_tokens=max_new_tokens, key=key, boundary=boundary
            )

    inner = Cards(
        segmenter=FixedSize(2),
        threshold=Constant(value=-99.0),
        acceptance=Soft(beta=1.0),
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

"""Scaled, Cached and Metered are the reward they wrap, and what they add is exact."""

import asyncio
import dataclasses
import math
import pickle
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsalign import BestOf, ConfigError, Message, Plain, Prompt, Response, RewardError, Stop, align
from rsalign.core.protocols import Reward, Scored
from rsalign.core.tasks import concurrently
from rsalign.rewards.wrappers import Cached, Metered, RewardStatistics, Scaled
from rsalign.testing import ToyPolicy, ToyReward, check_reward

PROMPT = Prompt((Message("user", "1"),), (1,))
OTHER = Prompt((Message("user", "2"),), (2,))
RESPONSE = Response((1, 2, 0), "1 2", Stop.EOS)
EXAMPLES = [
    (PROMPT, Response((1, 2), "1 2", Stop.BOUNDARY)),
    (PROMPT, Response((1, 0), "1", Stop.EOS)),
    (OTHER, Response((), "", None)),
]


class Slow:
    """Answers when it is allowed to; knows who asked and who gave up."""

    def __init__(self):
        self.allowed = asyncio.Event()
        self.asked = self.cancelled = self.closed = 0
        self.failure = None

    async def score(self, prompt, response):
        self.asked += 1
        try:
            await self.allowed.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure is not None:
            raise self.failure
        return Scored(len(response.tokens), tokens=10, cached_tokens=4)

    def close(self):
        self.closed += 1


def test_wrappers_take_and_return_rewards():
    for wrap in (Scaled, Cached, Metered):
        reward = wrap(ToyReward())
        assert isinstance(reward, Reward)
        asyncio.run(check_reward(reward, EXAMPLES, tolerance=0))
        with pytest.raises(ConfigError, match="give a reward"):
            wrap(None)


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_scaled(scale, shift):
    value = ToyReward().value(RESPONSE.tokens)
    scaled = Scaled(ToyReward(), scale=scale, shift=shift)
    assert asyncio.run(scaled.score(PROMPT, RESPONSE)) == scale * value + shift


@pytest.mark.parametrize(("scale", "preferred"), [(3.0, 0.75), (0.0, 0.5), (-3.0, 0.25)])
def test_a_negative_scale_turns_a_preference_around(scale, preferred):
    class Judge(ToyReward):
        async def prefer(self, prompt, one, other):
            return 0.75

    scaled = Scaled(Judge(), scale=scale, shift=1.0)
    assert asyncio.run(scaled.prefer(PROMPT, RESPONSE, RESPONSE)) == preferred


def test_scaled_is_a_value_and_keeps_the_cost():
    assert pickle.loads(pickle.dumps(Scaled(ToyReward(), 2))) == Scaled(ToyReward(), 2, 0)

    async def main():
        slow = Slow()
        slow.allowed.set()
        value = await Scaled(slow, scale=2, shift=1).score(PROMPT, RESPONSE)
        assert (value, value.tokens, value.cached_tokens) == (7, 10, 4)

    asyncio.run(main())


@pytest.mark.parametrize("wrong", [{"scale": math.nan}, {"shift": math.inf}, {"scale": "2"}])
def test_scaled_refuses(wrong):
    with pytest.raises(ConfigError, match="give a finite number"):
        Scaled(ToyReward(), **wrong)


@pytest.mark.parametrize("max_size", [0, -1, 1.5, True, None])
def test_cached_refuses(max_size):
    with pytest.raises(ConfigError, match="max_size"):
        Cached(ToyReward(), max_size=max_size)


def test_the_same_is_asked_once():
    asked = Metered(ToyReward())
    cached = Cached(asked)

    async def main():
        first = [await cached.score(*example) for example in EXAMPLES]
        again = [await cached.score(*example) for example in EXAMPLES]
        assert first == again == [await ToyReward().score(*example) for example in EXAMPLES]

    asyncio.run(main())
    asyncio.run(main())  # another event loop
    assert asked.statistics().calls == len(EXAMPLES)


def test_prompt_text_and_stop_tell_questions_apart():
    asked = Metered(ToyReward())
    cached = Cached(asked)
    variants = [
        (PROMPT, RESPONSE),
        (OTHER, RESPONSE),
        (PROMPT, dataclasses.replace(RESPONSE, text="1")),
        (PROMPT, dataclasses.replace(RESPONSE, stop=Stop.LENGTH)),
        (PROMPT, dataclasses.replace(RESPONSE, stop=None)),
    ]

    async def main():
        for variant in variants * 2:
            await cached.score(*variant)
        # the same question, though its log-probabilities are known now
        known = dataclasses.replace(RESPONSE, log_probs=(-1.0, -1.0, -1.0))
        await cached.score(PROMPT, known)

    asyncio.run(main())
    assert asked.statistics().calls == len(variants)


def test_the_cache_is_bounded_and_forgets_what_was_not_wanted_for_longest():
    asked = Metered(ToyReward())
    cached = Cached(asked, max_size=2)
    a, b, c = (Response((token,), str(token), Stop.EOS) for token in (1, 2, 3))

    async def main():
        for response, calls in ((a, 1), (b, 2), (a, 2), (c, 3), (a, 3), (b, 4), (c, 5)):
            await cached.score(PROMPT, response)
            assert asked.statistics().calls == calls, response

    asyncio.run(main())


def test_concurrent_askers_share_one_call_and_its_cost():
    async def main():
        slow = Slow()
        cached = Cached(slow)
        tasks = [asyncio.ensure_future(cached.score(PROMPT, RESPONSE)) for _ in range(5)]
        await asyncio.sleep(0)
        assert slow.asked == 1
        slow.allowed.set()
        values = [await task for task in tasks]
        assert values == [3] * 5
        assert sum(value.tokens for value in values) == 10
        assert (await cached.score(PROMPT, RESPONSE)).tokens == 0
        assert slow.asked == 1

    asyncio.run(main())


@pytest.mark.parametrize("gone", [0, 2, 4])
def test_a_cancelled_asker_does_not_spoil_the_others(gone):
    async def main():
        slow = Slow()
        cached = Cached(slow)
        tasks = [asyncio.ensure_future(cached.score(PROMPT, RESPONSE)) for _ in range(5)]
        await asyncio.sleep(0)
        tasks[gone].cancel()
        await asyncio.wait([tasks[gone]])
        assert tasks[gone].cancelled()
        await asyncio.sleep(0)
        slow.allowed.set()
        values = [await task for i, task in enumerate(tasks) if i != gone]
        assert values == [3] * 4
        # only the one who asked takes the call with it; then exactly one other asks anew
        assert slow.asked == (2 if gone == 0 else 1)
        assert slow.cancelled == (1 if gone == 0 else 0)
        assert sum(value.tokens for value in values) == 10

    asyncio.run(main())


def test_when_all_give_up_the_call_ends_and_the_next_asks_anew():
    async def main():
        slow = Slow()
        cached = Cached(slow)
        tasks = [asyncio.ensure_future(cached.score(PROMPT, RESPONSE)) for _ in range(3)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        slow.allowed.set()
        assert await cached.score(PROMPT, RESPONSE) == 3

    asyncio.run(main())


def test_failures_are_shared_but_not_cached():
    async def main():
        slow = Slow()
        slow.failure = RewardError("down")
        cached = Cached(slow)
        tasks = [asyncio.ensure_future(cached.score(PROMPT, RESPONSE)) for _ in range(3)]
        await asyncio.sleep(0)
        slow.allowed.set()
        for task in tasks:
            with pytest.raises(RewardError, match="down"):
                await task
        assert slow.asked == 1
        slow.failure = None
        assert await cached.score(PROMPT, RESPONSE) == 3

    asyncio.run(main())


@pytest.mark.parametrize("value", [math.nan, "3", None])
def test_what_is_no_number_is_not_cached(value):
    class Broken:
        async def score(self, prompt, response):
            return value

    cached = Cached(Broken())
    for _ in range(2):
        with pytest.raises(RewardError, match="by Broken"):
            asyncio.run(cached.score(PROMPT, RESPONSE))


def test_event_loops_in_several_threads_share_answers():
    asked = Metered(ToyReward())
    cached = Cached(asked, max_size=50)
    responses = [Response((i,), str(i), Stop.EOS) for i in range(80)]
    seen = []

    def work():
        async def main():
            return await concurrently(cached.score(PROMPT, response) for response in responses)

        seen.extend(asyncio.run(main()) for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [ToyReward().value(response.tokens) for response in responses]
    assert seen == [expected] * 20
    assert asked.statistics().calls <= 20 * 80


def test_metered_counts_calls_tokens_and_seconds():
    async def main():
        slow = Slow()
        metered = Metered(slow)
        assert metered.statistics() == RewardStatistics()
        tasks = [asyncio.ensure_future(metered.score(PROMPT, RESPONSE)) for _ in range(3)]
        await asyncio.sleep(0.01)
        early = metered.statistics()
        assert (early.calls, early.tokens, early.seconds) == (3, 0, 0)
        tasks[0].cancel()
        slow.allowed.set()
        await asyncio.wait(tasks)
        late = metered.statistics()
        assert (late.calls, late.tokens, late.cached_tokens) == (3, 20, 8)
        assert late.seconds >= 3 * 0.01 * 0.9  # calls that overlap count in full
        assert early.calls == 3
        assert early.seconds == 0
        with pytest.raises(dataclasses.FrozenInstanceError):
            early.calls = 0

    asyncio.run(main())


def test_metered_counts_failures_and_leaves_values_alone():
    class Broken:
        async def score(self, prompt, response):
            if not response.tokens:
                raise RewardError("nothing to judge")
            return "no number"

    metered = Metered(Broken())
    assert asyncio.run(metered.score(PROMPT, RESPONSE)) == "no number"
    with pytest.raises(RewardError, match="nothing"):
        asyncio.run(metered.score(PROMPT, Response((), "", None)))
    assert metered.statistics().calls == 2
    assert metered.statistics().seconds > 0


def test_metered_counts_over_many_runs():
    metered = Metered(ToyReward())
    for seed in range(3):
        asyncio.run(
            align(
                PROMPT,
                BestOf(n=4, inner=Plain(max_tokens=3)),
                policy=ToyPolicy(),
                reward=metered,
                seed=seed,
            )
        )
    assert metered.statistics().calls == 12


def test_closing_reaches_through_all_wrappers():
    async def main():
        slow = Slow()
        Metered(Cached(Scaled(slow))).close()
        assert slow.closed == 1
        Metered(Cached(Scaled(ToyReward()))).close()  # nothing to close is fine

    asyncio.run(main())


def test_what_changes_no_value_changes_no_fingerprint():
    assert Metered(Cached(ToyReward(3))).fingerprint == ToyReward(3).fingerprint
    assert Scaled(ToyReward(3), 2).fingerprint != ToyReward(3).fingerprint
    assert (
        repr(Metered(Cached(ToyReward(3), 5))) == "Metered(Cached(ToyReward(salt=3), max_size=5))"
    )

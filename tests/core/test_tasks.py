import asyncio
import gc

import pytest

from rsalign.tasks import concurrently, until


def test_order_is_kept():
    async def slow_first(i):
        await asyncio.sleep(0.01 * (3 - i))
        return i

    assert asyncio.run(concurrently(slow_first(i) for i in range(3))) == [0, 1, 2]


def test_the_first_failure_cancels_the_rest_and_is_raised_alone():
    gone = []

    async def waits():
        try:
            await asyncio.sleep(60)
        finally:
            gone.append(1)

    async def fails():
        await asyncio.sleep(0)
        raise KeyError("this one")

    with pytest.raises(KeyError, match="this one"):
        asyncio.run(concurrently([waits(), fails(), waits()]))
    assert len(gone) == 2


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_a_limit_bounds_what_is_open(limit):
    open_now, most, made = 0, 0, 0

    async def one(i):
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0)
        open_now -= 1
        return i

    def lazily():
        nonlocal made
        for i in range(20):
            made += 1
            yield one(i)

    assert asyncio.run(concurrently(lazily(), limit=limit)) == list(range(20))
    assert most == min(limit, 20)
    assert made == 20


def test_nothing_to_do():
    assert asyncio.run(concurrently([])) == []
    assert asyncio.run(concurrently([], limit=2)) == []


def test_until_looks_in_order_and_cancels_what_comes_later():
    cancelled = []

    async def one(i):
        try:
            await asyncio.sleep((0.03, 0.01, 0.0, 60)[i])
        except asyncio.CancelledError:
            cancelled.append(i)
            raise
        return i

    looked_at = []

    def enough(i):
        looked_at.append(i)
        return i == 1

    assert asyncio.run(until((one(i) for i in range(4)), enough)) == [0, 1] == looked_at
    assert cancelled == [3]
    assert asyncio.run(until((one(i) for i in range(3)), lambda i: False)) == [0, 1, 2]


def test_until_raises_the_failure_that_comes_first_in_order():
    async def fails(i):
        await asyncio.sleep(0.01 * i)
        raise KeyError(i)

    async def good():
        return 7

    with pytest.raises(KeyError, match="1"):
        asyncio.run(until([fails(1), fails(0)], bool))
    assert asyncio.run(until([good(), fails(1)], lambda value: value == 7)) == [7]


@pytest.mark.parametrize("num_turns", range(1, 5))
@pytest.mark.parametrize(
    "start",
    [concurrently, lambda many: concurrently(many, limit=2), lambda many: until(many, bool)],
    ids=["concurrently", "with a limit", "until"],
)
def test_cancelling_before_anything_began_leaves_nothing_unawaited(start, num_turns, recwarn):
    async def leaf():
        await asyncio.sleep(60)

    async def main():
        task = asyncio.Task(start([leaf() for _ in range(3)]))
        for _ in range(num_turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []

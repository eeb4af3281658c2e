import asyncio

import pytest

from rsalign.tasks import concurrently


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

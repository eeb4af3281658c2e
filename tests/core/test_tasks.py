import asyncio
import gc
import itertools

import pytest

from rsalign.core.tasks import concurrently, until
from rsalign.engines.loop_thread import LoopThread


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


def test_of_several_failures_the_first_is_raised():
    async def fails(i):
        await asyncio.sleep(0)
        raise KeyError(i)

    with pytest.raises(KeyError) as raised:
        asyncio.run(concurrently(fails(i) for i in range(3)))
    assert raised.value.args == (0,)


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


def test_until_cancels_the_very_next_one_too():
    finished = []

    async def one(i):
        for _ in range(1000 * i):
            await asyncio.sleep(0)
        finished.append(i)
        return i

    assert asyncio.run(until(map(one, range(3)), lambda i: True)) == [0]
    assert finished == [0]


def test_until_raises_the_failure_that_comes_first_in_order():
    async def fails(i):
        await asyncio.sleep(0.01 * i)
        raise KeyError(i)

    async def good():
        return 7

    with pytest.raises(KeyError, match="1"):
        asyncio.run(until([fails(1), fails(0)], bool))
    assert asyncio.run(until([good(), fails(1)], lambda value: value == 7)) == [7]


OUTCOMES = ("no", "enough", "failure")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("outcomes", list(itertools.product(OUTCOMES, repeat=3)))
def test_until_is_the_same_whoever_is_faster(outcomes, order):
    """What awaiting one after another gives, for every order in which they may end."""
    gone = []

    async def one(i):
        try:
            for _ in range(order.index(i) + 1):  # so many turns of the loop
                await asyncio.sleep(0)
            if outcomes[i] == "failure":
                raise KeyError(i)
            return i
        finally:
            gone.append(i)

    def expected():
        looked_at = []
        for i, outcome in enumerate(outcomes):
            if outcome == "failure":
                return looked_at, i
            looked_at.append(i)
            if outcome == "enough":
                break
        return looked_at, None

    looked_at = []

    def enough(i):
        looked_at.append(i)
        return outcomes[i] == "enough"

    async def main():
        try:
            return await until(map(one, range(3)), enough), None
        except KeyError as failure:
            return looked_at, failure.args[0]

    assert asyncio.run(main()) == expected()
    assert sorted(gone) == [0, 1, 2], "something is still open"


def test_until_does_not_wait_for_what_comes_after_a_failure():
    async def one(i):
        if i == 1:
            raise KeyError(i)
        await asyncio.sleep(60 if i == 2 else 0)
        return i

    with pytest.raises(KeyError, match="1"):
        asyncio.run(until(map(one, range(3)), lambda i: False))


class NativePanic(BaseException):
    """No `Exception`."""


@pytest.mark.parametrize(
    "kind",
    [KeyError, SystemExit, KeyboardInterrupt, GeneratorExit, NativePanic, asyncio.CancelledError],
)
@pytest.mark.parametrize(
    "start",
    [concurrently, lambda many: concurrently(many, limit=2), lambda many: until(many, bool)],
    ids=["concurrently", "with a limit", "until"],
)
def test_any_failure_reaches_who_awaits_with_its_cause_and_the_loop_goes_on(start, kind):
    async def fails():
        await asyncio.sleep(0)
        try:
            raise OSError("the reason")
        except OSError as reason:
            raise kind from reason

    async def main():
        try:
            await start([fails(), asyncio.sleep(60)])
        except BaseException as failure:  # noqa: BLE001 - of any kind
            await asyncio.sleep(0)
            return failure

    failure = LoopThread("test").call(main())
    assert type(failure) is kind
    assert isinstance(failure.__cause__, OSError)


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

"""Who gets room in a server, in which order, and that no room is lost."""

import asyncio

import pytest

from rsalign import BestOf, BusyError, Calibrate, Cards, ConfigError, FixedSize, Plain, QAlign
from rsalign.core.capabilities import parallel_draws
from rsalign.serve.admission import Admission
from rsalign.serve.draw_window import DrawWindow


def run(coroutine):
    async def in_time():
        async with asyncio.timeout(10):
            await coroutine

    asyncio.run(in_time())


def test_a_request_counts_as_many_draws_as_it_can_have_open():
    async def admit():
        admission = Admission(8)
        async with admission.admit(answers=2, draws=6):
            assert (admission.num_answers, admission.num_open) == (2, 6)
            with pytest.raises(BusyError, match="can have 6 draws open, and this one 3 more"):
                async with admission.admit(answers=1, draws=3):
                    pass
            async with admission.admit(answers=2):  # never less than its answers
                assert admission.num_open == 8
        # more draws than there will ever be room for count as all of it
        async with admission.admit(answers=1, draws=4096):
            assert admission.num_open == 8
        with pytest.raises(ConfigError, match="9 answers are asked for at once"):
            async with admission.admit(answers=9):
                pass
        with pytest.raises(ZeroDivisionError):
            async with admission.admit(answers=4):
                raise ZeroDivisionError
        assert (admission.num_answers, admission.num_open) == (0, 0)

    run(admit())


def test_requests_wait_in_order_and_the_queue_is_bounded():
    order = []

    async def hold(admission, name, draws, event):
        async with admission.admit(answers=1, draws=draws):
            order.append(name)
            await event.wait()

    async def admit():
        admission, event = Admission(4, max_waiting=2), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(hold(admission, "first", 3, event))
            await asyncio.sleep(0)
            group.create_task(hold(admission, "large", 4, event))
            await asyncio.sleep(0)
            group.create_task(hold(admission, "small", 1, event))  # would fit, but came later
            await asyncio.sleep(0)
            assert (order, admission.num_waiting) == (["first"], 2)
            with pytest.raises(BusyError):
                async with admission.admit(answers=1):
                    pass
            event.set()
        assert order == ["first", "large", "small"]
        assert (admission.num_open, admission.num_waiting) == (0, 0)

    run(admit())


@pytest.mark.parametrize("given", [False, True])
def test_who_stops_waiting_takes_no_room(given):
    """Cancelled while it waits, or in the moment in which it gets its room."""

    async def admit():
        admission = Admission(1, max_waiting=4)

        async def wait():
            async with admission.admit(answers=1):
                raise AssertionError("it was cancelled")

        async with asyncio.TaskGroup() as group:
            first = admission.admit(answers=1)
            await first.__aenter__()
            waiting = group.create_task(wait())
            await asyncio.sleep(0)
            assert admission.num_waiting == 1
            if given:
                await first.__aexit__(None, None, None)
                assert admission.num_open == 1
            waiting.cancel()
            await asyncio.wait([waiting])
            if not given:
                await first.__aexit__(None, None, None)
        assert (admission.num_open, admission.num_waiting) == (0, 0)
        async with admission.admit(answers=1):
            pass

    run(admit())


def test_waiting_ends_after_some_time():
    async def admit():
        admission = Admission(1, max_waiting=4, max_wait_seconds=0.01)
        async with admission.admit(answers=1):
            with pytest.raises(BusyError) as busy:
                async with admission.admit(answers=1):
                    pass
            assert busy.value.reason == "busy"
            assert busy.value.retry_after_seconds >= 1
        assert (admission.num_open, admission.num_waiting) == (0, 0)

    run(admit())


def test_a_server_that_stops_refuses_also_those_that_wait():
    async def admit():
        admission = Admission(1, max_waiting=4)

        async def wait():
            with pytest.raises(BusyError) as busy:
                async with admission.admit(answers=1):
                    pass
            assert busy.value.reason == "stopping"

        async with asyncio.TaskGroup() as group, admission.admit(answers=1):
            group.create_task(wait())
            await asyncio.sleep(0)
            admission.stop()
        with pytest.raises(BusyError, match="shutting down"):
            async with admission.admit(answers=1):
                pass
        assert admission.num_open == 0

    run(admit())


def test_a_free_place_goes_to_the_request_that_holds_the_fewest():
    """A pool of many draws does not keep a request that came later waiting for all of them."""
    ended = []

    async def draw(share, name):
        async with share.place():
            await asyncio.sleep(0)
            ended.append(name)

    async def both():
        window = DrawWindow(2)
        pool, late = window.open_share(), window.open_share()
        most = 0

        def watch():
            nonlocal most
            most = max(most, window.num_open)

        window.on_change = watch
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(draw(pool, "pool"))
            await asyncio.sleep(0)
            for _ in range(3):
                group.create_task(draw(late, "late"))
        assert most == 2
        assert (window.num_open, window.num_waiting) == (0, 0)
        assert ended.index("late") <= 4
        assert max(i for i, name in enumerate(ended) if name == "late") <= 9

    run(both())


def test_beside_other_requests_there_are_fewer_places():
    beside, most = True, 0

    async def draw(share):
        nonlocal most
        async with share.place():
            most = max(most, window.num_open)
            await asyncio.sleep(0)

    async def draw_many():
        share = window.open_share()
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(draw(share))

    window = DrawWindow(8, 2, lambda: beside)
    run(draw_many())
    assert (most, window.num_open, window.num_waiting) == (2, 0, 0)
    beside = False
    run(draw_many())
    assert (most, window.num_open) == (8, 0)


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_a_cancelled_draw_leaves_its_place(moment):
    async def draw(share):
        async with share.place():
            await asyncio.sleep(0)

    async def cancel():
        window = DrawWindow(1)
        share = window.open_share()
        async with asyncio.TaskGroup() as group:
            drawing = [group.create_task(draw(share)) for _ in range(6)]
            for _ in range(moment):
                await asyncio.sleep(0)
            for one in drawing[::2]:
                one.cancel()
        assert (window.num_open, share.num_open, window.num_waiting) == (0, 0, 0)
        await draw(share)

    run(cancel())


def test_strategies_say_how_many_draws_they_have_open():
    cards = Cards(segmenter=FixedSize(4), max_tokens=16, proposals=3)
    assert parallel_draws(Plain()) == 1
    assert parallel_draws(BestOf(n=4, inner=BestOf(n=3))) == 12
    assert parallel_draws(cards) == 3
    assert parallel_draws(Calibrate(inner=cards, draws=8)) == 8
    assert parallel_draws(BestOf(n=4, inner=cards)) == 12
    assert parallel_draws(QAlign(steps=200)) == 1
    assert parallel_draws(QAlign(steps=200, chains=4, candidates=2, pool=5)) == 8
    assert parallel_draws(object()) == 1

"""The edge itself: what is turned into an error of ours, and what is not."""

import asyncio
import signal
import threading

import pytest

from rsalign import ConfigError, RewardError, RsalignError
from rsalign.core.checks import quote
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.types import Message, Prompt, Response, Stop
from rsalign.rewards import FunctionReward


def edge():
    return errors_as(lambda failure: RewardError(describe_error(failure)))


def test_an_error_of_ours_is_left_as_it_is():
    error = RsalignError("ours")
    with pytest.raises(RsalignError) as raised, edge():
        raise error
    assert raised.value is error


def test_an_error_of_ours_is_foreign_where_only_a_users_function_can_raise_it():
    with pytest.raises(RewardError), errors_as(lambda failure: RewardError("x"), kept=()):
        raise ConfigError("raised by a reward function")


def test_an_interrupt_on_the_main_thread_is_the_users():
    assert threading.current_thread() is threading.main_thread()
    with pytest.raises(KeyboardInterrupt), edge():
        raise KeyboardInterrupt
    with pytest.raises(RewardError), edge():
        raise SystemExit


def test_a_handler_of_the_users_own_may_end_the_process():
    def leave(number, frame):
        raise SystemExit(7)

    before = signal.signal(signal.SIGUSR1, leave)
    try:
        with pytest.raises(SystemExit), edge():
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_who_has_another_handler_of_ctrl_c_is_not_interrupted_by_an_exception():
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        with pytest.raises(RewardError), edge():
            raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_cancellation_is_left_as_it_is():
    async def work():
        with edge():
            await asyncio.sleep(60)

    async def main():
        task = asyncio.Task(work())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())


def test_a_cancellation_that_nobody_asked_for_is_a_failure():
    async def work():
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        with edge():
            await future

    with pytest.raises(RewardError):
        asyncio.run(work())


def test_a_closed_coroutine_is_just_closed():
    async def work():
        with edge():
            await asyncio.sleep(60)

    async def main():
        coroutine = work()
        coroutine.send(None)
        coroutine.close()

    asyncio.run(main())


def test_a_coroutine_that_is_closed_while_an_inner_one_waits_is_just_closed():
    class Waits:
        def __await__(self):
            yield

    async def inner():
        await Waits()

    async def work():
        with edge():
            await inner()

    coroutine = work()
    coroutine.send(None)
    coroutine.close()


def test_a_generator_exit_that_foreign_code_raises_is_a_failure():
    def leave(*_):
        raise GeneratorExit

    async def judge():
        await asyncio.sleep(0)
        leave()

    async def work():
        with edge():
            await judge()

    with pytest.raises(RewardError, match="GeneratorExit"), edge():
        leave()
    with pytest.raises(RewardError, match="GeneratorExit"):
        asyncio.run(work())
    reward = FunctionReward(leave)
    with pytest.raises(RewardError, match="GeneratorExit"):
        asyncio.run(
            reward.score(Prompt((Message("user", "1"),), (1,)), Response((1,), "b", Stop.EOS))
        )
    reward.close()


@pytest.mark.parametrize("value", ["a\nb" * 1000, {"key": "x" * 10_000}, "\ud83d", b"\xff" * 999])
def test_a_value_is_one_short_line(value):
    for text in (quote(value), describe_error(ValueError(value))):
        assert 0 < len(text) <= 340
        assert "\n" not in text
        text.encode()

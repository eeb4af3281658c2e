"""Anyone's code as a reward: it may block, hang, raise or return nonsense."""

import asyncio
import os
import subprocess
import sys
import threading
import time

import psutil
import pytest

from rsalign import ConfigError, Message, Prompt, RewardError
from rsalign.core.tasks import concurrently
from rsalign.core.types import Response, Stop
from rsalign.rewards.function import FunctionReward
from rsalign.testing import check_reward

PROMPT = Prompt((Message("user", "a question"),), (1,))


def answer(text):
    return Response((1,), text, Stop.EOS)


def score(reward, text="an answer"):
    return asyncio.run(reward.score(PROMPT, answer(text)))


def length(prompt, response):
    return len(prompt) + len(response)


async def length_later(prompt, response):
    await asyncio.sleep(0)
    return length(prompt, response)


class Length:
    def __call__(self, prompt, response):
        return length(prompt, response)


@pytest.mark.parametrize(
    "function",
    [length, length_later, Length(), lambda p, r: length(p, r)],
    ids=["sync", "async", "object", "lambda"],
)
def test_all_kinds_of_functions(function):
    reward = FunctionReward(function)
    asyncio.run(check_reward(reward, [(PROMPT, answer("x" * i)) for i in range(20)]))
    assert score(reward) == 19.0
    reward.close()


def test_processes():
    reward = FunctionReward(length, pool="process", num_workers=1)
    assert score(reward) == 19.0
    reward.close()
    with pytest.raises(ConfigError, match="cannot go to another process"):
        FunctionReward(lambda p, r: 0, pool="process")


def test_a_blocking_function_does_not_stall_the_loop():
    gate = threading.Event()
    reward = FunctionReward(lambda p, r: gate.wait(10) and 1.0)

    async def main():
        waiting = asyncio.ensure_future(reward.score(PROMPT, answer("x")))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        gate.set()
        return await waiting

    assert asyncio.run(main()) == 1.0
    reward.close()


@pytest.mark.parametrize(
    "value", ["0.5", None, [1], object()], ids=["text", "none", "list", "object"]
)
def test_what_is_no_number_is_refused(value):
    with pytest.raises(RewardError, match="must return a finite number") as failed:
        score(FunctionReward(lambda p, r: value))
    assert failed.value.response.text == "an answer"


def test_what_is_raised_is_named():
    def verifier(prompt, response):
        raise KeyError("no such file")

    with pytest.raises(RewardError, match=r"verifier raised KeyError\('no such file'\)"):
        score(FunctionReward(verifier))


def test_calls_that_hang_are_left_behind_and_do_not_use_up_the_pool():
    forever = threading.Event()

    def hangs_on_odd(prompt, response):
        if len(response) % 2:
            forever.wait(60)
        return 1.0

    reward = FunctionReward(hangs_on_odd, num_workers=2, timeout_seconds=0.2)

    async def one(i):
        try:
            return await reward.score(PROMPT, answer("x" * i))
        except RewardError as error:
            return "took longer than 0.2 seconds" in str(error)

    async def main():
        hung = await concurrently(one(i) for i in (1, 3, 5, 7))
        fine = await concurrently(one(i) for i in (2, 4, 6, 8))
        return hung, fine

    assert asyncio.run(main()) == ([True] * 4, [1.0] * 4)
    forever.set()
    reward.close()


def test_a_hanging_function_does_not_keep_the_process():
    program = """
import time
from rsalign import Aligner, BestOf, Plain, RewardError
from rsalign.rewards.function import FunctionReward
from rsalign.testing import ToyPolicy

def hang(prompt, response):
    time.sleep(600)

reward = FunctionReward(hang, timeout_seconds=0.1)
with Aligner(ToyPolicy(), reward, BestOf(n=2, inner=Plain(max_tokens=3))) as aligner:
    try:
        aligner.generate("1")
    except RewardError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "took longer than 0.1 seconds" in done.stdout


@pytest.mark.parametrize("pool", ["thread", "process"])
def test_a_call_that_waits_behind_one_that_hangs_has_its_own_time(pool):
    reward = FunctionReward(hangs_at_first, pool=pool, num_workers=1, timeout_seconds=0.5)

    async def one(text):
        try:
            return await reward.score(PROMPT, answer(text))
        except RewardError as error:
            return str(error)

    async def main():
        return await concurrently(map(one, ("hang", "a", "bb")))

    hung, *others = asyncio.run(main())
    assert "took longer than 0.5 seconds" in hung
    assert others == [1.0, 2.0]
    reward.close()


def hangs_at_first(prompt, response):
    if response == "hang":
        threading.Event().wait(60)
    return float(len(response))


class TwoArgumentsError(Exception):
    """One that can be pickled, but not unpickled."""

    def __init__(self, one, two):
        super().__init__(one)


def unruly(prompt, response):
    if response == "raise":
        raise TwoArgumentsError("it is odd", 2)
    if response == "die":
        os._exit(7)
    return os.getpid()


def test_a_process_fails_by_itself_and_is_replaced():
    reward = FunctionReward(unruly, pool="process", num_workers=1)
    first = score(reward)
    with pytest.raises(RewardError, match="it is odd"):
        score(reward, "raise")
    assert score(reward) == first
    with pytest.raises(RewardError, match="exit code 7"):
        score(reward, "die")
    second = score(reward)
    idle = psutil.Process(int(second))
    idle.kill()
    # gone once its last thread is: the first may be a zombie before
    while idle.status() != psutil.STATUS_ZOMBIE or idle.num_threads() > 1:
        time.sleep(0.01)
    assert len({first, second, score(reward)}) == 3
    reward.close()

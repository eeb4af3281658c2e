"""Requests that share a batch do not share a failure."""

import asyncio
import threading

import pytest

from rsalign import RewardError
from rsalign.rewards.batching import Batcher


class NativePanic(BaseException):
    """No `Exception`."""


async def asked(batcher, values):
    answers = [asyncio.ensure_future(batcher(value)) for value in values]
    await asyncio.wait(answers)
    return [answer.exception() or answer.result() for answer in answers]


@pytest.mark.parametrize("kind", [ValueError, StopIteration, SystemExit, NativePanic])
def test_one_that_fails_costs_the_others_nothing(kind):
    sizes = []

    def double(batch):
        sizes.append(len(batch))
        if 3 in batch:
            raise kind
        return [2 * value for value in batch]

    batcher = Batcher(double, max_batch_size=8, name="test")
    for _ in range(2):  # its thread lives on
        *others, failed, last = asyncio.run(asked(batcher, [0, 1, 2, 3, 4]))
        assert [*others, last] == [0, 2, 4, 8]
        assert isinstance(failed, RewardError)
        assert type(failed.__cause__) is kind
    assert max(sizes) > 1
    batcher.close()


def test_each_of_a_batch_gets_its_own_result():
    sizes, started = [], threading.Event()

    def double(batch):
        started.wait()  # so that the others wait together
        sizes.append(len(batch))
        return [2 * value for value in batch]

    async def main():
        asyncio.get_running_loop().call_later(0.05, started.set)
        return await asked(batcher, range(5))

    batcher = Batcher(double, max_batch_size=8, name="test")
    assert asyncio.run(main()) == [0, 2, 4, 6, 8]
    assert max(sizes) > 1
    batcher.close()


def test_a_batch_with_too_few_results():
    batcher = Batcher(lambda batch: [], max_batch_size=8, name="test")
    found = asyncio.run(asked(batcher, [1, 2]))
    assert all(isinstance(each, RewardError) for each in found)
    batcher.close()

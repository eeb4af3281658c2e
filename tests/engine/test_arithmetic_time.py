"""The time that models compute is measured while a benchmark asks for it, and not later."""

import asyncio
import time

import pytest

from rsalign import Key
from rsalign.engines.vllm.arithmetic import timed_arithmetic

pytestmark = pytest.mark.engine


def test_forward_passes_are_timed_until_the_block_ends(policy):
    def draw():
        asyncio.run(policy.extend((1, 20, 30), max_new_tokens=8, key=Key(0)))

    with timed_arithmetic() as arithmetic:
        assert "not known" in arithmetic.describe(time.perf_counter())
        started = time.perf_counter()
        draw()
        elapsed = time.perf_counter() - started
        assert 0 < arithmetic.seconds < elapsed
        arithmetic.since = started
        assert "not arithmetic" in arithmetic.describe(time.perf_counter())
    found = arithmetic.seconds
    draw()
    assert arithmetic.seconds == found

"""A request that is preempted and comes back is answered as if nothing had happened.

The second runner gives it another slot and does not say that it is the same request.
"""

import asyncio
import contextlib
import math

import pytest
from async_scheduling import kept
from preempting import preempting
from scenarios import BOUNDARIES, alike, describe, draw, prompts, start

from rsalign import Key, Stop
from rsalign.core.tasks import concurrently
from rsalign.segments import Entropy

pytestmark = pytest.mark.engine

ASKED = {name: (boundary, False) for name, boundary in BOUNDARIES.items()} | {
    "measured": (None, True),
    "measured segments": (Entropy(1.0), True),
}


@pytest.fixture(scope="module", params=[False, True], ids=["one by one", "scheduled ahead"])
def second(request):
    with kept() if request.param else contextlib.nullcontext():
        policy = start()
    yield policy
    policy.close()


@pytest.mark.parametrize("every", [2, 3])
@pytest.mark.parametrize("name", ASKED)
def test_preempted_segments_are_those_that_nobody_disturbs(second, name, every):
    boundary, measured = ASKED[name]
    calm = draw(second, boundary, measured=measured)
    with preempting(second, every) as preempted:
        torn = draw(second, boundary, measured=measured)
    assert sum(preempted) > 2
    assert alike([describe(one) for one in torn], [describe(one) for one in calm])
    assert not measured or all(map(math.isfinite, torn[0].certainty.entropies))


def test_a_cache_too_small_for_all_requests(second):
    """vLLM itself preempts then."""
    calm = {name: draw(second, boundary, measured=m) for name, (boundary, m) in ASKED.items()}
    small = start(
        guides=[], kv_cache_memory_bytes=1 << 20, max_model_len=128, enable_prefix_caching=False
    )
    try:
        scheduler = small.engine.vllm_engine.engine_core.engine_core.scheduler
        preempt, preempted = scheduler._preempt_request, []

        def noted(request, *rest, **options):
            preempted.append(request.request_id)
            return preempt(request, *rest, **options)

        scheduler._preempt_request = noted
        for name, (boundary, measured) in ASKED.items():
            torn = draw(small, boundary, measured=measured)
            assert alike(*([describe(one) for one in each] for each in (torn, calm[name]))), name
        assert preempted
    finally:
        small.close()


def test_aborts_leave_the_others_as_they_are(second):
    """Three of twelve go in the middle of their answers; there are six slots."""
    rules = list(BOUNDARIES.values())[-1], Entropy(1.5), None
    asked = [(prompt, rules[i % 3]) for i, prompt in enumerate((prompts(second) * 2)[:12])]

    def draws():
        return [
            second.extend(prompt, max_new_tokens=40, key=Key(1, (i,)), boundary=rule)
            for i, (prompt, rule) in enumerate(asked)
        ]

    async def some():
        engine, begun, steps = second.engine.vllm_engine, asyncio.Event(), [0]
        step, loop = engine.step, asyncio.get_running_loop()

        def counted():
            steps[0] += 1
            if steps[0] == 5:
                loop.call_soon_threadsafe(begun.set)
            return step()

        engine.step = counted
        open_draws = [asyncio.ensure_future(each) for each in draws()]
        await begun.wait()
        for index in gone:
            open_draws[index].cancel()
        await asyncio.wait(open_draws)
        engine.step = step
        return open_draws

    gone = (2, 5, 11)  # those that end by themselves only
    expected = asyncio.run(_all(draws()))
    drawn = asyncio.run(some())
    assert [i for i, each in enumerate(drawn) if each.cancelled()] == list(gone)
    for i, (each, whole) in enumerate(zip(drawn, expected, strict=True)):
        assert i in gone or alike(describe(each.result()), describe(whole))
    assert any(one.stop is Stop.BOUNDARY for one in expected)


async def _all(draws):
    return await concurrently(draws)

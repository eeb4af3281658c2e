"""`AlignedClient` in Python: an `AsyncLLM` whose `generate` runs a strategy for those who ask."""

import asyncio
import contextlib

import pytest
from serving import CARDS, QUESTION

from rsalign import Aligner, BestOf, Cards, FixedSize, Line
from rsalign.core.tasks import concurrently
from rsalign.engines.vllm.errors import refusal_types

pytestmark = pytest.mark.engine

BEST = {"rsalign": "best_of", "rsalign_n": 3}
SEGMENTS = {
    "rsalign": "cards",
    "rsalign_segmenter": "fixed_size",
    "rsalign_segmenter.n": 4,
    "rsalign_threshold": "line",
    "rsalign_threshold.target": 3.0,
}


def params(**given):
    from vllm import SamplingParams

    return SamplingParams(**{"max_tokens": 48, "seed": 5} | given)


async def read(client, request_id, **given):
    """All outputs of one request."""
    return [each async for each in client.generate(QUESTION, params(**given), request_id)]


async def use(engine, client):
    """What an owner of the engine sees; the client's answers beside the engine's own."""
    from vllm.sampling_params import RequestOutputKind

    kinds = {"extra_args": SEGMENTS, "output_kind": RequestOutputKind.DELTA}
    best, deltas, plain, own = await concurrently(
        [
            read(client, "a", extra_args=BEST),
            read(client, "b", **kinds),
            read(client, "c", logprobs=2),
            read(engine, "d", logprobs=2),
        ]
    )
    told = await read(client, "e", logprobs=2, extra_args={"rsalign": "none"})
    for wrong in ({"rsalign": "nope"}, {"rsalign": "best_of", "rsalign_m": 1}, {"rsalign_n": 2}):
        with pytest.raises(refusal_types()):
            client.generate(QUESTION, params(extra_args=wrong), "f")
    return best, deltas, (plain, own, told)


async def leave(client):
    """In three ways: at the first piece, by cancelling, and by telling the client."""
    long = {"rsalign": "qalign", "rsalign_steps": 1000}
    async with contextlib.aclosing(
        client.generate(QUESTION, params(extra_args=SEGMENTS), "left")
    ) as outputs:
        await anext(outputs)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await read(client, "cancelled", extra_args=long)
    aborted = asyncio.ensure_future(read(client, "aborted", extra_args=long))
    await asyncio.sleep(0.3)
    await client.abort("aborted")
    (last,) = await aborted
    return last


def test_it_is_the_engine_and_more(policy, beside, reward):
    from vllm import RequestOutput

    from rsalign.serve.client import AlignedClient

    engine = beside.engine.vllm_engine

    async def main():
        client = AlignedClient(engine, reward)
        used = await use(engine, client)
        last = await leave(client)
        left = engine.output_processor.get_num_unfinished_requests()
        client.close()
        return used, last, left, await read(engine, "after", logprobs=2)

    (best, deltas, same), last, left, after = beside.engine.loop.call(main())
    assert left == 0
    assert (last.finished, last.outputs[0].finish_reason) == (True, "abort")
    cards = Cards(
        segmenter=FixedSize(4), threshold=Line(target=CARDS["threshold"]["target"]), max_tokens=48
    )
    with Aligner(policy, reward) as aligner:
        one, other = (
            aligner.generate(QUESTION, params(), strategy=each, use_tqdm=False)[0]
            for each in (BestOf(n=3), cards)
        )
    (answer,) = best
    assert type(answer) is RequestOutput
    assert list(answer.outputs[0].token_ids) == list(one.outputs[0].token_ids)
    assert answer.outputs[0].reward == pytest.approx(one.outputs[0].reward, abs=1e-4)
    assert answer.alignment.usage.policy_tokens_drawn == one.alignment.usage.policy_tokens_drawn
    assert len(deltas) > 1
    assert deltas[-1].alignment.diagnostics == other.alignment.diagnostics
    drawn = [token for each in deltas for token in each.outputs[0].token_ids]
    assert drawn == list(other.outputs[0].token_ids)
    assert [each.finished for each in deltas] == [False] * (len(deltas) - 1) + [True]
    plain, own, told = (repr(outputs[-1].outputs) for outputs in same)
    assert plain == own == told == repr(after[-1].outputs)


def test_requests_that_draw_once_wait_for_no_place(beside, reward):
    """They cost the engine what a request without a strategy costs; pools make room for both."""
    from rsalign.serve.client import AlignedClient

    most = {}

    async def open_draws(client, request_ids, **given):
        held = []
        client.window.on_change = lambda: held.append(client.window.num_open)
        await concurrently(read(client, each, **given) for each in request_ids)
        client.window.on_change = None
        return max(held, default=0)

    async def main():
        client = AlignedClient(beside.engine.vllm_engine, reward)
        size, beside_others = client.window.size, client.window.size_beside
        assert 1 <= beside_others < size < client.window.size * 2 <= beside.engine.capacity + 1
        most["pool"] = await open_draws(client, "a", extra_args=BEST | {"rsalign_n": size + 1})
        most["once"] = await open_draws(client, "bcd", extra_args={"rsalign": "plain"})
        client.window.size_beside = 1
        most["beside"] = await open_draws(client, "e", extra_args=BEST)
        client.close()
        return size

    size = beside.engine.loop.call(main())
    assert most == {"pool": size, "once": 0, "beside": 1}

"""A client that leaves frees every engine request it caused, whenever it leaves."""

import asyncio
import contextlib

import httpx
import pytest
from serving import CARDS, KEY, MESSAGES

from rsalign import Key
from rsalign.core.tasks import concurrently

pytestmark = pytest.mark.engine

NUM_CLIENTS = 96
AT_ONCE = 12
REQUESTS = [
    {"rsalign": {"strategy": "best_of", "n": 4}},
    {"rsalign": {"strategy": "best_of", "n": 4}, "stream": True},
    {"rsalign": CARDS, "stream": True},
    {"rsalign": CARDS},
    {"rsalign": "plain", "stream": True},
    {"rsalign": {"strategy": "qalign", "steps": 64, "chains": 2}, "stream": True},
    {"rsalign": {"strategy": "best_of", "n": 2}, "n": 2, "stream": True},
    {},
]


def test_many_random_disconnects_leave_nothing_behind(server):
    async def main():
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:

            async def one(i):
                """Leaves after up to half a second, or at a piece of the answer."""
                key = Key(3, (i,))
                body = {"model": "tiny", "messages": MESSAGES, "max_tokens": 96, "seed": i}
                request = body | REQUESTS[i % len(REQUESTS)]
                with contextlib.suppress(TimeoutError):
                    async with (
                        asyncio.timeout(key.child("when").below(500) / 1000),
                        client.stream(
                            "POST",
                            f"{server.address}/v1/chat/completions",
                            json=request,
                            headers={"Authorization": f"Bearer {KEY}"},
                        ) as answer,
                    ):
                        num_pieces = 0
                        async for _ in answer.aiter_raw():
                            num_pieces += 1
                            if num_pieces > key.child("piece").below(6):
                                return 1
                        return 0
                return 1

            return await concurrently((one(i) for i in range(NUM_CLIENTS)), limit=AT_ONCE)

    left_early = sum(asyncio.run(main()))
    assert left_early > NUM_CLIENTS / 4
    assert not any(server.settled().values())
    assert server.metric("rsalign:requests_total", outcome="cancelled") > 0
    status, _, _ = server.ask(
        "/v1/chat/completions", {"model": "tiny:best_of", "messages": MESSAGES, "n": 8}
    )
    assert status == 200


def test_leaving_while_the_reward_hangs(server):
    async def main():
        body = {"model": "tiny:best_of", "messages": [{"role": "user", "content": "HANG"}]}
        async with httpx.AsyncClient(timeout=60) as client:

            async def one(stream):
                async with asyncio.timeout(1.5):
                    await client.post(
                        f"{server.address}/v1/chat/completions",
                        json=body | {"stream": stream},
                        headers={"Authorization": f"Bearer {KEY}"},
                    )

            for stream in (True, False):
                with pytest.raises(TimeoutError):
                    await one(stream)

    asyncio.run(main())
    assert not any(server.settled().values())

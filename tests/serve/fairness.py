"""How long plain requests take beside requests of strategies that draw a great deal.

    PYTHONPATH=tests:tests/serve python tests/serve/fairness.py --seconds 20

One client asks for plain answers, one after the other: alone, and then beside each mix of clients
that ask for strategies as often as they are answered. Prints the median and the 99th percentile of
the plain requests' durations, and the latter's ratio to that alone; exits with 1 if a ratio is
above `MOST`, or a plain request is not answered.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx
from serving import KEY, MESSAGES, Served, rsalign_serve

from rsalign.core.tasks import concurrently

MOST = 3.0
POOL = {"strategy": "best_of", "n": 1024}
CHAIN = {"strategy": "qalign", "steps": 200, "chains": 4}
MIXES = {
    "alone": [],
    "1 x best_of n=1024": [POOL],
    "4 x best_of n=1024": [POOL] * 4,
    "16 x best_of n=64": [{"strategy": "best_of", "n": 64}] * 16,
    "8 x qalign steps=200 chains=4": [CHAIN] * 8,
    "all of these": [POOL] * 4 + [CHAIN] * 4 + [{"strategy": "best_of", "n": 64}] * 8,
}


def body(max_tokens, seed, **fields):
    return {
        "model": "tiny",
        "messages": MESSAGES,
        "max_tokens": max_tokens,
        "seed": seed,
        **fields,
    }


class Clients:
    """Clients of one server.

    Args:
        server: that is asked.
        client: sends.
    """

    def __init__(self, server, client):
        self._server, self._client = server, client

    async def post(self, content):
        """Sends one request; returns its status and how long it took, seconds."""
        started = time.perf_counter()
        answer = await self._client.post(
            f"{self._server.address}/v1/chat/completions",
            json=content,
            headers={"Authorization": f"Bearer {KEY}"},
        )
        return answer.status_code, time.perf_counter() - started

    async def measure(self, seconds):
        """The durations of plain requests, one after the other."""
        ends, found = time.monotonic() + seconds, []
        while time.monotonic() < ends:
            status, duration = await self.post(body(16, len(found)))
            assert status == 200, status
            found.append(duration)
        return found

    async def press(self, strategy, number):
        """Asks for a strategy until it is cancelled; what is refused waits a little."""
        while True:
            status, _ = await self.post(body(32, number, rsalign=strategy))
            await asyncio.sleep(0.2 if status == 429 else 0)

    async def beside(self, strategies, seconds):
        """The durations of plain requests beside these."""
        found = []

        async def look():
            await asyncio.sleep(1.0 if strategies else 0.0)
            found.extend(await self.measure(seconds))
            for task in pressing:
                task.cancel()

        async with asyncio.TaskGroup() as group:
            pressing = [
                group.create_task(self.press(strategy, i)) for i, strategy in enumerate(strategies)
            ]
            group.create_task(look())
        return found


async def main(arguments, server):
    """Measures all mixes; whether all ratios are allowed."""
    good = True
    async with httpx.AsyncClient(timeout=300, limits=httpx.Limits(max_connections=256)) as client:
        clients = Clients(server, client)
        await concurrently(clients.post(body(16, i)) for i in range(4))  # caches are warm
        alone = None
        print("| beside | requests | median, s | p99, s | p99 to that alone |")
        print("|---|---:|---:|---:|---:|")
        for name, strategies in MIXES.items():
            found = await clients.beside(strategies, arguments.seconds)
            p99 = statistics.quantiles(found, n=100)[98]
            alone = alone or p99
            median, ratio = statistics.median(found), p99 / alone
            print(f"| {name} | {len(found)} | {median:.3f} | {p99:.3f} | {ratio:.2f} |", flush=True)
            good &= ratio <= MOST
            left = server.settled()
            assert not any(left.values()), left
    return good


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("flags", nargs="*", help="more flags of rsalign serve, after --")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        served = Served(Path(folder) / "log", rsalign_serve(*given.flags))
        try:
            within = asyncio.run(main(given, served.wait()))
        finally:
            served.stop()
    sys.exit(not within)

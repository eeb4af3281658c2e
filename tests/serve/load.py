"""A server under load.

    PYTHONPATH=tests python tests/serve/load.py --clients 128 --seconds 120 --leaving 1000

Mixed clients ask for so long, then so many ask and leave at random. Prints what was answered, the
memory of the server's processes over time, and what is left in the engine; exits with 1 if anything
failed, is left behind, or if memory grew by more than a tenth after the first quarter.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx
import psutil
from serving import CARDS, KEY, MESSAGES, Served, rsalign_serve

from rsalign import Key
from rsalign.core.tasks import concurrently

REQUESTS = [
    {"rsalign": {"strategy": "best_of", "n": 4}},
    {"rsalign": {"strategy": "best_of", "n": 4}, "stream": True},
    {"rsalign": CARDS, "stream": True},
    {"rsalign": CARDS | {"segmenter": {"name": "entropy", "threshold": 1.0}}},
    {"rsalign": "plain", "stream": True},
    {"rsalign": "plain", "n": 2},
    {"rsalign": {"strategy": "qalign", "steps": 8}, "stream": True},
    {"stream": True},
    {},
]


def body(number):
    """A request of one of the kinds, with a seed of its own."""
    base = {"model": "tiny", "messages": MESSAGES, "max_tokens": 96, "seed": number}
    return base | REQUESTS[number % len(REQUESTS)]


class Load:
    """Clients of one server."""

    def __init__(self, server, client):
        self._server, self._client = server, client
        self.answers = Counter()

    async def ask(self, number, seconds=None, pieces=None):
        """One request; it is left after so many seconds or pieces."""
        try:
            async with asyncio.timeout(seconds):
                async with self._client.stream(
                    "POST",
                    f"{self._server.address}/v1/chat/completions",
                    json=body(number),
                    headers={"Authorization": f"Bearer {KEY}"},
                ) as answer:
                    text, num_pieces = "", 0
                    async for piece in answer.aiter_text():
                        text += piece
                        num_pieces += 1
                        if pieces is not None and num_pieces > pieces:
                            raise TimeoutError
                failed = answer.status_code != 200 or '"error"' in text
                self.answers[f"status {answer.status_code}" + " with an error" * failed] += 1
                if failed:
                    print(text[:300])
        except TimeoutError:
            self.answers["left"] += 1
        except httpx.HTTPError as failure:
            self.answers[repr(failure)] += 1
            print(f"request {number}: {failure!r}")

    async def run(self, clients, seconds):
        """Each client asks again as soon as it is answered; memory is looked at meanwhile."""
        deadline = time.monotonic() + seconds
        memory = []

        async def one(client):
            number = client
            while time.monotonic() < deadline:
                await self.ask(number)
                number += clients

        async def watch():
            while time.monotonic() < deadline:
                memory.append(self.measure_memory())
                await asyncio.sleep(seconds / 20)

        await concurrently([watch(), *(one(client) for client in range(clients))])
        return memory

    async def leave(self, count):
        """So many clients, 32 at once, each of which leaves when it likes."""

        def leaving(number):
            key = Key(1, (number,))
            after = 0.02 + key.child("when").below(1500) / 1000
            return self.ask(number, after, key.child("piece").below(6))

        await concurrently((leaving(number) for number in range(count)), limit=32)

    def measure_memory(self):
        """MiB of the server and its engines."""
        server = psutil.Process(self._server.pid)
        processes = [server, *server.children(recursive=True)]
        return sum(process.memory_info().rss for process in processes) / 2**20


async def main(arguments, server):
    """What was found to be wrong."""
    # the server closes what is idle for 5 s, and resets whoever asks just then
    limits = httpx.Limits(
        max_connections=None, max_keepalive_connections=None, keepalive_expiry=1.0
    )
    faults = []
    async with httpx.AsyncClient(timeout=600, limits=limits) as client:
        load = Load(server, client)
        started = time.monotonic()
        memory = await load.run(arguments.clients, arguments.seconds)
        total, seconds = sum(load.answers.values()), time.monotonic() - started
        print(f"{arguments.clients} clients for {seconds:.0f} s: {dict(load.answers)}")
        print(f"{total / seconds:.1f} answers/s; MiB:", *(f"{each:.0f}" for each in memory))
        if set(load.answers) != {"status 200"}:
            faults.append("not every answer was right")
        settled = memory[len(memory) // 4]
        if max(memory[len(memory) // 4 :]) > 1.1 * settled:
            faults.append(f"memory grew from {settled:.0f} to {max(memory):.0f} MiB")
        load.answers.clear()
        before = load.measure_memory()
        await load.leave(arguments.leaving)
        print(f"{arguments.leaving} that leave: {dict(load.answers)}")
        print(f"MiB before and after: {before:.0f} {load.measure_memory():.0f}")
        if any("error" in outcome for outcome in load.answers):
            faults.append("a client that left was told of an error")
    left = server.settled()
    print(f"left behind: {left}")
    if any(left.values()):
        faults.append("requests were left behind")
    return faults


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--leaving", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        served = Served(Path(folder) / "log", rsalign_serve("--disable-uvicorn-access-log"))
        with contextlib.ExitStack() as stack:
            stack.callback(served.stop)
            wrong = asyncio.run(main(given, served.wait(seconds=1200)))
        if wrong:
            said = (Path(folder) / "log").read_text().splitlines()
            print(*[line for line in said if "ERROR" in line or "Error" in line][-40:], sep="\n")
    print("\n".join(wrong) or "all is well")
    sys.exit(bool(wrong))

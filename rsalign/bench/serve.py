"""What the aligned server costs next to vLLM's own, on the same model and in one run.

Both servers run side by side with the same settings and are asked in turn, so that only one works
at a time. Each ratio is that of tokens a second, and that of tokens for each second of processor
time that the server's processes took; the latter hardly depends on who else uses the machine. Above
1, ours is the faster. The aligned server always seeds its requests; where it says so, vLLM's is
asked for the same, which costs it the same. The goal is a ratio of at least 0.97.

What the engine's hooks cost, asked for or not, is in none of these ratios, because only our engine
has them: `rsalign bench hooks` (goal: less than 1 % where nobody asks) and, in a checkout,
`python -m eval.bench guided` measure it, in engines without a server.
"""

import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rsalign.bench.server_process import ServerProcess, stock_command
from rsalign.core.tasks import concurrently
from rsalign.embedded.problems import problems
from rsalign.engines.vllm.environment import prepare_environment

_MAX_TOKENS = 96


@dataclass(slots=True)
class _Case:
    """One way to ask both servers.

    Attributes:
        name: in the table.
        ours: what is added to a request to the aligned server.
        theirs: what is added to one to vLLM's.
        both: what is added to each.
        rates: tokens a second, and tokens a processor second, of ours over theirs, by round.
        speeds: tokens a second of both, by round.
    """

    name: str
    ours: Mapping[str, Any] = field(default_factory=dict)
    theirs: Mapping[str, Any] = field(default_factory=dict)
    both: Mapping[str, Any] = field(default_factory=dict)
    rates: list[tuple[float, float]] = field(default_factory=list)
    speeds: list[tuple[float, float]] = field(default_factory=list)


def report(
    policy: str, *, concurrencies: Sequence[int], requests: int, repeats: int
) -> Iterator[str]:
    """Lines of the table, as they are known, and where the costs are that it has not.

    Args:
        policy: model id or path.
        concurrencies: requests open at once.
        requests: in each round.
        repeats: rounds; the median is shown, and one more round fills caches.

    Raises:
        PolicyError: if a server does not start.
    """
    prepare_environment()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ours = stack.enter_context(ServerProcess(_aligned(policy), folder / "ours"))
        theirs = stack.enter_context(ServerProcess(stock_command(policy), folder / "theirs"))
        for server in (ours, theirs):
            server.wait()
        plain = {"rsalign": "plain"}
        for concurrency in concurrencies:
            cases = [
                _Case("no strategy"),
                _Case("no strategy, streamed", both={"stream": True}),
                _Case("plain, both seeded", ours=plain, theirs={"seed": 1}),
                _Case("plain, vLLM not seeded", ours=plain),
                _Case("plain, streamed", plain, {"seed": 1}, {"stream": True}),
            ]
            for _ in range(repeats + 1):
                for case in cases:
                    _compare(case, ours, theirs, concurrency, requests)
            for case in cases:
                yield _line(case, concurrency)
    yield "goal: aligned / vLLM of at least 0.97"
    yield f"logits hooks (goal: under 1 % when idle): rsalign bench hooks --policy {policy}"
    yield f"guides, next to running both models: python -m eval.bench guided --policy {policy}"


def _aligned(policy: str) -> list[str]:
    return [sys.executable, "-m", "rsalign.cli.main", "serve", "--policy", policy, "--reward", ""]


def _compare(
    case: _Case, ours: ServerProcess, theirs: ServerProcess, concurrency: int, requests: int
) -> None:
    """One round of both."""
    speeds, efficiencies = [], []
    for server, extra in ((ours, case.ours), (theirs, case.theirs)):
        before, started = server.processor_seconds(), time.perf_counter()
        tokens = asyncio.run(_asked(server, {**case.both, **extra}, concurrency, requests))
        speeds.append(tokens / (time.perf_counter() - started))
        efficiencies.append(tokens / (server.processor_seconds() - before))
    case.speeds.append((speeds[0], speeds[1]))
    case.rates.append((speeds[0] / speeds[1], efficiencies[0] / efficiencies[1]))


async def _asked(
    server: ServerProcess, extra: Mapping[str, Any], concurrency: int, requests: int
) -> int:
    """Tokens of the answers to so many requests."""
    import httpx

    asked = problems("heldout", requests)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)

    async def one(number: int) -> int:
        question = {"role": "user", "content": asked[number].question}
        body = {"model": "policy", "messages": [question], "max_tokens": _MAX_TOKENS, **extra}
        if "seed" in body:
            body["seed"] = number
        if body.get("stream"):
            body["stream_options"] = {"include_usage": True}
        answer = await client.post(f"{server.address}/v1/chat/completions", json=body)
        answer.raise_for_status()
        _, _, rest = answer.text.rpartition('"completion_tokens":')
        return int(rest.strip().split(",")[0].split("}")[0])

    async with httpx.AsyncClient(timeout=600, limits=limits) as client:
        return sum(await concurrently((one(i) for i in range(requests)), limit=concurrency))


def _line(case: _Case, concurrency: int) -> str:
    wall, processor = (statistics.median(column) for column in zip(*case.rates[1:], strict=True))
    our, their = (statistics.median(column) for column in zip(*case.speeds[1:], strict=True))
    name = f"{case.name}, {concurrency} at once"
    return (
        f"{name:<40} aligned / vLLM = {wall:5.2f} (tokens/s: {our:6.0f} and {their:6.0f}), "
        f"{processor:5.2f} for each processor second"
    )

"""Server-sent events of an aligned answer: kept alive while nothing is certain, and completed."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any

from rsalign.serve.report import block
from rsalign.serve.request import Wanted

_DATA = "data: "
_FINISHES = '"finish_reason":"'
_COUNTS = '"usage":{'


class EventStream:
    r"""vLLM's events with what a strategy adds to them.

    A response begins with its first event, or with the first comment that keeps it alive. What
    fails before that has a status of its own, as without streaming; what fails later is an event.

    Args:
        events: of vLLM's handler, ``"data: ...\n\n"``.
        wanted: what the request asks for.
        interval_seconds: longest silence; then a comment is sent, which clients ignore.
    """

    def __init__(
        self, events: AsyncGenerator[str, None], wanted: Wanted, interval_seconds: float
    ) -> None:
        self._events = events
        self._wanted = wanted
        self._interval_seconds = interval_seconds
        self._arrived: asyncio.Queue[str | None] = asyncio.Queue()
        self._pump: asyncio.Future[None] | None = None
        self._first: str | None = None
        self._num_finished = 0

    async def open(self) -> None:
        """Waits for the first event, as long as that does not keep a client waiting.

        Raises:
            Exception: what has failed by then.
        """
        self._pump = asyncio.ensure_future(self._pumped())
        self._first = await self._next()
        self._wanted.ledger.watched = False  # from here on a failure is an event
        if self._wanted.ledger.failure is not None:
            raise self._wanted.ledger.failure

    async def sent(self) -> AsyncGenerator[str, None]:
        """The events, once opened."""
        assert self._pump is not None
        try:
            event = self._first
            while event is not None:
                yield event
                event = await self._next()
            await self._pump  # raises what ended it
        finally:
            await self.close()

    async def close(self) -> None:
        """Ends what is under way; idempotent."""
        if self._pump is not None and not self._pump.done():
            self._pump.cancel()
            await asyncio.wait([self._pump])
        with contextlib.suppress(RuntimeError):  # it is being closed already
            await self._events.aclose()

    async def _pumped(self) -> None:
        try:
            async for event in self._events:
                self._arrived.put_nowait(event)
        finally:
            self._arrived.put_nowait(None)

    async def _next(self) -> str | None:
        """The next event, or a comment if it keeps a client waiting; None at the end."""
        try:
            async with asyncio.timeout(self._interval_seconds):
                event = await self._arrived.get()
        except TimeoutError:
            return self._comment()
        return event if event is None else self._completed(event)

    def _comment(self) -> str:
        """What stands for events: a strategy that decides at the end has none until then."""
        progress = self._wanted.ledger.progress
        step = f", step {progress.step} of {progress.steps}" if progress is not None else ""
        return f": {self._wanted.name}: no more of the answer is certain yet{step}\n\n"

    def _completed(self, event: str) -> str:
        """The event that ends the last choice has the report, and the usage counts all drawn."""
        # within text a quote would be escaped
        if not (_FINISHES in event or _COUNTS in event):
            return event
        content = json.loads(event.removeprefix(_DATA))
        ledger = self._wanted.ledger
        finished = [each for each in content.get("choices", ()) if each.get("finish_reason")]
        self._num_finished += len(finished)
        if not ledger.complete or self._num_finished < ledger.expected:
            return event
        if finished:
            content["rsalign"] = block(self._wanted)
        if content.get("usage"):
            count_drawn(content["usage"], self._wanted)
        return f"{_DATA}{json.dumps(content, ensure_ascii=False)}\n\n"


def count_drawn(usage: dict[str, Any], wanted: Wanted) -> None:
    """Makes the usage of a response that of all tokens drawn."""
    drawn = sum(result.usage.policy_tokens_drawn for result in wanted.ledger.results.values())
    kinds = ("prompt_tokens", "completion_tokens")
    prompt, answer = kinds if kinds[1] in usage else ("input_tokens", "output_tokens")
    usage[answer] = drawn
    usage["total_tokens"] = usage[prompt] + drawn

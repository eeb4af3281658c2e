"""What responses have beside vLLM's fields: the ``rsalign`` block, and streams kept alive."""

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

from rsalign.core.align import Result
from rsalign.core.budget import Usage
from rsalign.core.trace import Proposal, Trace, Verdict
from rsalign.serve.served_request import ServedRequest

_FIGURES = ("accepted", "rejected", "forced", "drawn", "kept", "reward_calls")
_DATA = "data: "
_FINISHES = '"finish_reason":"'
_COUNTS = '"usage":{'


def make_block(served: ServedRequest) -> dict[str, Any]:
    """The ``rsalign`` block of a complete response, over all its choices together.

    ``reward`` is the highest among them, with its named ``components`` if it has any. ``accepted``
    and ``rejected`` count the proposals of `decided_proposals`, ``forced`` those at any depth.
    ``drawn`` and ``kept`` are tokens of the policy; ``parts`` has what each named part of the run
    spent, if there are any. ``abstained`` tells whether no choice is an answer. ``streamed`` tells
    whether text was sent before its answer was complete. ``warnings`` lists what the user should
    know, such as that a greedy policy has one answer only. Several choices have one entry each
    under ``choices``.
    """
    results = [served.results[i] for i in sorted(served.results)]
    choices = [_summarize(result) for result in results]
    rewards = [result.reward for result in results if result.reward is not None]
    whole: dict[str, Any] = {
        "strategy": served.asked.name,
        "reward": max(rewards, default=None),
        **_list_components(max(results, key=_rank)),
        "abstained": all(result.abstained for result in results),
        "expired": any(result.expired for result in results),
        "streamed": served.streamed,
        "seconds": round(served.seconds, 6),
        "seed": results[0].seed,
        **{count: sum(choice[count] for choice in choices) for count in _FIGURES},
        **_list_parts(results),
        "warnings": list(dict.fromkeys(text for result in results for text in result.warnings)),
    }
    if len(results) == 1:
        return whole | _list_diagnostics(results[0])
    each = [
        choice | _list_diagnostics(result) for choice, result in zip(choices, results, strict=True)
    ]
    return whole | {"choices": each}


def decided_proposals(trace: Trace) -> list[Proposal]:
    """The proposals that a strategy accepted or rejected.

    If the outer trace has at most one proposal, the decisions were made by its inner runs (the
    chains of a chain method, say): their proposals are taken instead.
    """
    level = [trace]
    while sum(len(each.proposals) for each in level) <= 1 and any(each.children for each in level):
        level = [child for each in level for child in each.children.values()]
    return [proposal for each in level for proposal in each.proposals]


def count_forced(trace: Trace) -> int:
    """How many proposals, at any depth, were taken although they were not accepted."""
    return sum(
        proposal.verdict is Verdict.FORCED for each in trace.walk() for proposal in each.proposals
    )


def _summarize(result: Result) -> dict[str, Any]:
    verdicts = [proposal.verdict for proposal in decided_proposals(result.trace)]
    return {
        "reward": result.reward,
        **_list_components(result),
        "abstained": result.abstained,
        "accepted": verdicts.count(Verdict.ACCEPTED),
        "rejected": verdicts.count(Verdict.REJECTED),
        "forced": count_forced(result.trace),
        "drawn": result.usage.policy_tokens_drawn,
        "kept": result.usage.policy_tokens_kept,
        "reward_calls": result.usage.reward_calls,
        "expired": result.expired,
        **_list_parts([result]),
    }


def _rank(result: Result) -> float:
    return -math.inf if result.reward is None else result.reward


def _list_components(result: Result) -> dict[str, Any]:
    return {"components": result.components} if result.components else {}


def _list_parts(results: Sequence[Result]) -> dict[str, Any]:
    """What each named part spent, over all results; the fields that are not 0."""
    total = sum((result.usage for result in results), Usage())
    spent = {name: replace(usage, seconds=0.0).spent() for name, usage in total.parts.items()}
    parts = {
        name: {field: amount for field, amount in own.items() if amount}
        for name, own in spent.items()
    }
    return {"parts": parts} if parts else {}


def _list_diagnostics(result: Result) -> dict[str, Any]:
    """The strategy's own diagnostics that are single numbers."""
    notes = {
        name: value
        for name, value in result.trace.notes.items()
        if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))
    }
    return {"diagnostics": notes}


class EventStream:
    r"""Server-sent events of vLLM's handler, kept alive and completed.

    While no text is certain, a comment is sent now and then; clients ignore it. The last event gets
    the ``rsalign`` block. A response begins with its first event or comment: a failure before that
    has an HTTP status of its own, as without streaming; a later one is an event.

    Args:
        events: of vLLM's handler, ``"data: ...\n\n"``.
        served: the request.
        interval_seconds: longest silence.
    """

    def __init__(
        self, events: AsyncGenerator[str, None], served: ServedRequest, interval_seconds: float
    ) -> None:
        self._events = events
        self._served = served
        self._interval_seconds = interval_seconds
        self._arrived: asyncio.Queue[str | None] = asyncio.Queue()
        self._pump: asyncio.Future[None] | None = None
        self._first: str | None = None
        self._num_finished = 0

    async def open(self) -> None:
        """Waits for the first event, or for the longest silence.

        Raises:
            Exception: the failure of a request that failed before its first event.
        """
        self._pump = asyncio.ensure_future(self._pump_events())
        self._first = await self._next_event()
        self._served.reports_failure = False  # from here on a failure is an event
        if self._served.failure is not None:
            raise self._served.failure

    async def read(self) -> AsyncGenerator[str, None]:
        """The events; the stream has been opened."""
        assert self._pump is not None
        try:
            event = self._first
            while event is not None:
                yield event
                event = await self._next_event()
            await self._pump  # raises what ended it
        finally:
            await self.close()

    async def close(self) -> None:
        """Stops vLLM's handler; idempotent."""
        if self._pump is not None and not self._pump.done():
            self._pump.cancel()
            await asyncio.wait([self._pump])
        with contextlib.suppress(RuntimeError):  # it is being closed already
            await self._events.aclose()

    async def _pump_events(self) -> None:
        try:
            async for event in self._events:
                self._arrived.put_nowait(event)
        finally:
            self._arrived.put_nowait(None)

    async def _next_event(self) -> str | None:
        """The next event, or a comment after the longest silence; None at the end."""
        try:
            async with asyncio.timeout(self._interval_seconds):
                event = await self._arrived.get()
        except TimeoutError:
            return self._make_comment()
        return event if event is None else self._complete(event)

    def _make_comment(self) -> str:
        """A comment that keeps the connection alive, with the strategy's progress."""
        progress = self._served.progress
        step = f", step {progress.step} of {progress.steps}" if progress is not None else ""
        return f": {self._served.asked.name}: no more of the answer is certain yet{step}\n\n"

    def _complete(self, event: str) -> str:
        """Adds the block to the event that ends the last choice, and counts all drawn tokens."""
        # within text a quote would be escaped
        if not (_FINISHES in event or _COUNTS in event):
            return event
        content = json.loads(event.removeprefix(_DATA))
        served = self._served
        finished = [each for each in content.get("choices", ()) if each.get("finish_reason")]
        self._num_finished += len(finished)
        if not served.complete or self._num_finished < served.num_expected:
            return event
        if finished:
            content["rsalign"] = make_block(served)
        if content.get("usage"):
            count_drawn(content["usage"], served)
        return f"{_DATA}{json.dumps(content, ensure_ascii=False)}\n\n"


def count_drawn(usage: dict[str, Any], served: ServedRequest) -> None:
    """Makes the usage of a response count all tokens drawn, discarded ones included."""
    drawn = sum(result.usage.policy_tokens_drawn for result in served.results.values())
    kinds = ("prompt_tokens", "completion_tokens")
    prompt, answer = kinds if kinds[1] in usage else ("input_tokens", "output_tokens")
    usage[answer] = drawn
    usage["total_tokens"] = usage[prompt] + drawn

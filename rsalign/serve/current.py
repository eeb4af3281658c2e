"""Which strategy answers the HTTP request under way, for the client that vLLM's handlers call.

A handler of vLLM's converts a request several times before it calls the engine's client, and some
requests have no field that would survive that. What our handlers have read is therefore told to the
client beside the call: by a context variable, which tasks that vLLM starts on the way inherit.
"""

import contextlib
from collections.abc import AsyncGenerator, Iterator
from contextvars import ContextVar
from typing import Any

from rsalign.serve.request import Wanted

_CURRENT: "ContextVar[tuple[Wanted | None] | None]" = ContextVar("rsalign_wanted", default=None)


def current() -> tuple[Wanted | None] | None:
    """What was read of the request under way: its strategy, or that it is left to the engine.

    None where no handler of ours has read it, so that its own words count.
    """
    return _CURRENT.get()


@contextlib.contextmanager
def handling(wanted: Wanted | None) -> Iterator[None]:
    """While this is open, the client answers by this strategy; None: by the engine itself."""
    token = _CURRENT.set((wanted,))
    try:
        yield
    finally:
        _CURRENT.reset(token)


async def handled(events: AsyncGenerator[Any, None], wanted: Wanted) -> AsyncGenerator[Any, None]:
    """The same events; the client answers by this strategy while each is made."""
    async with contextlib.aclosing(events):
        while True:
            with handling(wanted):
                try:
                    event = await anext(events)
                except StopAsyncIteration:
                    return
            yield event

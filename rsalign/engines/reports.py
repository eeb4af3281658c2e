"""What a hook has learnt of a request, for whoever holds the request's ticket.

It stays in the engine's process, and on its device, until it is read: once a segment, never once a
token. Engines in this process are read directly, others by a call to their workers (`Reporter`).
"""

import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

Reading: TypeAlias = dict[str, list[float]]
"""Named rows of numbers: plain data, so that it can leave the engine's process."""

# Whoever cancelled a request, or lives in another process and died, never reads: the oldest go.
_MOST = 16384
_reports: OrderedDict[str, Callable[[int], Reading]] = OrderedDict()


@contextmanager
def awaited() -> Iterator[str]:
    """A ticket for one request, which nobody else can guess; what is left is dropped at the end."""
    ticket = secrets.token_hex(8)
    try:
        yield ticket
    finally:
        _reports.pop(ticket, None)


def publish(ticket: str, read: Callable[[int], Reading]) -> None:
    """Called by a hook when it meets the request; `read` takes the number of tokens drawn."""
    _reports[ticket] = read
    if len(_reports) > _MOST:
        _reports.popitem(last=False)


def is_awaited(ticket: str) -> bool:
    """Whether it was published and nobody has read it yet."""
    return ticket in _reports


def take(ticket: str, num_drawn: int) -> Reading | None:
    """What was published in this process; None if there is nothing (more). It is read once.

    It is awaited until it has been read: the engine, on its thread, may else give its place to
    another request meanwhile.
    """
    read = _reports.get(ticket)
    if read is None:
        return None
    try:
        return read(num_drawn)
    finally:
        _reports.pop(ticket, None)


class Reporter:
    """Part of vLLM's worker (``worker_extension_cls``): reads for a client in another process."""

    def rsalign_take(self, ticket: str, num_drawn: int) -> Reading | None:
        """See `take`."""
        return take(ticket, num_drawn)

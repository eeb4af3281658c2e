"""Entropies that a hook of an engine in this process reports to whoever asked.

They stay on the device until someone reads them: once a segment, never once a token.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_NUMBERS = itertools.count()
_reports: dict[str, Callable[[int], float] | None] = {}


@contextmanager
def awaited() -> Iterator[str]:
    """A ticket for one request; what is reported under it is kept within the block."""
    ticket = f"{os.getpid()}-{next(_NUMBERS)}"  # never that of a request from another process
    _reports[ticket] = None
    try:
        yield ticket
    finally:
        del _reports[ticket]


def report(ticket: str, read: Callable[[int], float]) -> None:
    """Called by the hook: `read` tells the entropy of the token that follows so many, nats."""
    if ticket in _reports:  # an engine in a process of its own has nobody to tell
        _reports[ticket] = read


def reported(ticket: str, num_drawn: int) -> float | None:
    """The entropy of the token that follows `num_drawn`; None if the engine runs elsewhere."""
    read = _reports.get(ticket)
    return None if read is None else read(num_drawn)

"""Measurements of a request that a hook publishes, and that the request's sender reads once.

A report stays in the engine's process, and on its device, until it is read: once a segment, never
once a token. Reports of engines in this process are read directly, those of other processes by a
call to their workers (`Reporter`).
"""

import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

Report: TypeAlias = dict[str, list[float]]
"""Named rows of numbers: plain data, so that it can leave the engine's process."""

# A sender that cancelled its request, or whose process died, never reads: the oldest are dropped.
_MAX_REPORTS = 16384
_reports: OrderedDict[str, Callable[[int], Report]] = OrderedDict()


@contextmanager
def open_ticket() -> Iterator[str]:
    """Yields the name of one report, which nobody can guess, and drops the report at the end.

    Example:
        >>> with open_ticket() as ticket:
        ...     publish_report(ticket, lambda num_drawn: {"entropies": [0.5] * num_drawn})
        ...     read_report(ticket, 2)
        {'entropies': [0.5, 0.5]}
    """
    ticket = secrets.token_hex(8)
    try:
        yield ticket
    finally:
        _reports.pop(ticket, None)


def publish_report(ticket: str, read: Callable[[int], Report]) -> None:
    """Registers a report, when a hook first meets the request.

    Args:
        ticket: that the request names.
        read: makes the report, given the number of tokens drawn.
    """
    _reports[ticket] = read
    if len(_reports) > _MAX_REPORTS:
        _reports.popitem(last=False)


def num_unread() -> int:
    """Returns how many reports of this process were published and have not been read."""
    return len(_reports)


def is_unread(ticket: str) -> bool:
    """Tells whether a report was published under this ticket and has not been read."""
    return ticket in _reports


def read_report(ticket: str, num_drawn: int) -> Report | None:
    """Reads, once, a report that was published in this process; None if there is none (any more).

    The ticket stays registered during the read, so that the engine, on its thread, does not give
    the request's slot to another meanwhile.
    """
    read = _reports.get(ticket)
    if read is None:
        return None
    try:
        return read(num_drawn)
    finally:
        _reports.pop(ticket, None)


class Reporter:
    """An extension of vLLM's worker (``worker_extension_cls``): reads for another process.

    Example:
        >>> Reporter().rsalign_read_report("unknown", 2) is None
        True
    """

    def rsalign_read_report(self, ticket: str, num_drawn: int) -> Report | None:
        """Calls `read_report` in the worker's process."""
        return read_report(ticket, num_drawn)

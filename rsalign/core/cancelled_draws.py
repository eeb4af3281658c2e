"""Tells whoever pays for a draw which tokens had been drawn when the draw was cancelled.

A budget that ends a run cancels the open calls of `Policy.extend`. Their tokens were computed, so
they are counted, and the longest of them may be the answer. A cancelled call returns nothing, and
its `CancelledError` passes through other people's code on its way out: a wrapper may replace it. So
the policy reports the tokens at the moment when it is cancelled, to the callback that the caller
has set for everything that runs inside the call (a `contextvars.ContextVar`, which tasks inherit).
A wrapper with the plain signature of `extend` need not know of it, and cannot lose the report.

A policy that does not report works as well: its cancelled draws then count as empty.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TypeAlias

from rsalign.core.types import Tokens

Receiver: TypeAlias = Callable[[Tokens, Tokens], object]
"""Called with the prefix of a cancelled draw and with the tokens that were drawn after it."""

_receiver: ContextVar[Receiver | None] = ContextVar("rsalign_cancelled_draws", default=None)


def report_cancelled_draw(prefix: Tokens, drawn: Tokens) -> None:
    """Reports the tokens of a draw that is being cancelled; without a receiver, does nothing.

    A policy calls it in ``except asyncio.CancelledError`` and raises the error again.

    Args:
        prefix: the prompt and the kept part of the response, as the engine was given them.
        drawn: the tokens that it had drawn after them.

    Example:
        >>> with receive_cancelled_draws(print):
        ...     report_cancelled_draw((1, 2), (7,))
        (1, 2) (7,)
        >>> report_cancelled_draw((1, 2), (7,))
    """
    receiver = _receiver.get()
    if receiver is not None:
        receiver(prefix, drawn)


@contextlib.contextmanager
def receive_cancelled_draws(receiver: Receiver) -> Iterator[None]:
    """Calls `receiver` for each draw that is cancelled inside this block, in child tasks, too."""
    token = _receiver.set(receiver)
    try:
        yield
    finally:
        _receiver.reset(token)

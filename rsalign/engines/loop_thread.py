"""An event loop on a thread of its own, for blocking callers and for engines."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from rsalign.core.tasks import outcome_of

T = TypeVar("T")


class LoopThread:
    """An event loop on another thread, so that callers may have a running loop (notebooks).

    Args:
        name: of the thread.

    Example:
        >>> loop = LoopThread("example")
        >>> loop.call(asyncio.sleep(0, result="done"))
        'done'
        >>> loop.stop()
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        """Starts a coroutine on the loop and returns its future."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the loop, waits, and returns its result or raises its error.

        An interrupt of the caller (Ctrl-C) cancels the coroutine. `SystemExit` of the coroutine is
        raised by this call, too: raised on the loop it would end the loop without a message.
        """
        future = self.submit(outcome_of(coroutine))
        try:
            outcome = future.result()
        except BaseException:
            future.cancel()
            raise
        return outcome.value()

    def stop(self) -> None:
        """Stops the loop and its thread."""
        if not self._loop.is_closed():
            # closes the connections of open streams now, and not when they are garbage-collected
            self.call(self._loop.shutdown_asyncgens())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=5)
            self._loop.close()


def call_on(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *args: Any) -> None:
    """Schedules a call of `function` on `loop`; does nothing if the loop was closed."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(function, *args)

"""An event loop on a thread of its own: for blocking callers, and for engines that need a home."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from rsalign.core.tasks import outcome_of

T = TypeVar("T")


class LoopThread:
    """Runs coroutines on another thread, so that it works inside a running loop (notebooks) too."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        """Starts a coroutine there."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine there and waits; an interrupt here (Ctrl-C) cancels it there.

        What the coroutine raises is raised here: there, `SystemExit` would end the loop unheard.
        """
        future = self.submit(outcome_of(coroutine))
        try:
            outcome = future.result()
        except BaseException:
            future.cancel()
            raise
        return outcome.value()

    def stop(self) -> None:
        """Ends the loop and its thread."""
        if not self._loop.is_closed():
            # what a server still streams is hung up on here, not by the garbage collector
            self.call(self._loop.shutdown_asyncgens())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=5)
            self._loop.close()


def call_on(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *args: Any) -> None:
    """Calls `function` on `loop`; a loop that was closed has nobody left who waits."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(function, *args)

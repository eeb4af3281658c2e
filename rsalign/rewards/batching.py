"""Batches concurrent single calls: those that arrive while one batch runs form the next."""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from rsalign.core.errors import RewardError
from rsalign.core.foreign import describe_error
from rsalign.rewards.workers import Attempt

A = TypeVar("A")
B = TypeVar("B")


@dataclass(slots=True)
class _Item(Generic[A, B]):
    value: A
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[B]"


class Batcher(Generic[A, B]):
    """Runs a blocking batch function on its own thread; awaitable from any event loop.

    A cancelled call is left out of its batch and does not affect the other calls. If a batch fails,
    each of its items is run again alone, so that a bad item fails only its own caller.

    Args:
        function: maps a batch of values to their results, in order.
        max_batch_size: greatest number of values in one call of the function.
        name: name of the thread.

    Example:
        >>> import asyncio
        >>> double = Batcher(lambda batch: [2 * x for x in batch], max_batch_size=8, name="double")
        >>> asyncio.run(double(21))
        42
        >>> double.close()
    """

    def __init__(
        self, function: Callable[[Sequence[A]], Sequence[B]], *, max_batch_size: int, name: str
    ) -> None:
        self._function = function
        self._max_batch_size = max_batch_size
        self._items: queue.SimpleQueue[_Item[A, B] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()
        self._closed = False

    async def __call__(self, value: A) -> B:
        """The result for one value.

        Raises:
            RewardError: if the batcher was closed, or the function raised something.
        """
        if self._closed:
            raise RewardError("this reward was closed: create a new one")
        loop = asyncio.get_running_loop()
        item = _Item[A, B](value, loop, loop.create_future())
        self._items.put(item)
        return await item.future

    def close(self) -> None:
        """Ends the thread after the batch that it is running."""
        if not self._closed:
            self._closed = True
            self._items.put(None)
            self._thread.join()

    def _work(self) -> None:
        while True:
            batch = self._next_batch()
            if batch is None:
                return
            if not batch:
                continue
            if not self._answer(batch):
                for item in batch:
                    self._answer([item])

    def _answer(self, batch: "list[_Item[A, B]]") -> bool:
        """Runs one batch and sets its results; False if it failed and has several items."""
        found = Attempt.of(self._run, [item.value for item in batch])
        if found.failure is not None and len(batch) > 1:
            return False
        if found.failure is not None:
            _settle(batch[0], None, found.failure)
            return True
        for item, result in zip(batch, found.value(), strict=True):
            _settle(item, result, None)
        return True

    def _run(self, values: Sequence[A]) -> Sequence[B]:
        results = self._function(values)
        if len(results) != len(values):
            raise RuntimeError(f"{len(results)} results for a batch of {len(values)}")
        return results

    def _next_batch(self) -> list[_Item[A, B]] | None:
        """The next batch, without cancelled calls; None after `close`, which fails open calls."""
        items, last = [self._items.get()], False
        while len(items) < self._max_batch_size:
            try:
                items.append(self._items.get_nowait())
            except queue.Empty:
                break
        last = None in items
        open_items = [item for item in items if item is not None and not item.future.cancelled()]
        if last:
            for item in open_items:
                _settle(item, None, RewardError("this reward was closed while it was scoring"))
            return None
        return open_items


def _settle(item: _Item[A, B], result: B | None, failure: BaseException | None) -> None:
    def on_loop() -> None:
        if item.future.done():  # cancelled in the meantime
            return
        if failure is not None:
            error = RewardError(f"the reward raised {describe_error(failure)}")
            error.__cause__ = failure  # which itself may be one that no future can carry
            item.future.set_exception(error)
        else:
            item.future.set_result(result)  # type: ignore[arg-type]

    if not item.loop.is_closed():
        item.loop.call_soon_threadsafe(on_loop)

"""Structured concurrency: the only place where tasks are born."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from rsalign.foreign import is_order

T = TypeVar("T")


async def concurrently(awaitables: Iterable[Awaitable[T]], *, limit: int | None = None) -> list[T]:
    """Awaits all at once and returns their results in order.

    The first failure cancels the others, waits until they are gone and is raised by itself, with
    the cause that it has.

    Args:
        awaitables: an iterator is asked for the next one only when there is room for it.
        limit: greatest number that are open at once; None is no limit.
    """
    results: dict[int, T] = {}
    failures: list[BaseException] = []
    tasks: list[asyncio.Task[None]] = []
    if limit is None:
        awaitables = list(awaitables)
    numbered = enumerate(awaitables)

    async def one(index: int, awaitable: Awaitable[T]) -> None:
        outcome = await outcome_of(awaitable)
        if outcome.failure is None:
            results[index] = outcome.result  # type: ignore[assignment]
        else:
            fail(outcome.failure)

    async def work() -> None:
        try:
            for index, awaitable in numbered:
                await one(index, awaitable)
                if failures:
                    return
        except Exception as failure:  # noqa: BLE001 - of the iterator; raised below
            fail(failure)

    def fail(failure: BaseException) -> None:
        failures.append(failure)
        if len(failures) == 1:  # what is finished in this very turn of the loop is not lost
            asyncio.get_running_loop().call_soon(cancel)

    def cancel() -> None:
        for task in tasks:
            task.cancel()

    try:
        # no task of the group raises anything: the group would cancel this very task as well
        async with asyncio.TaskGroup() as group:
            if limit is None:
                tasks += [group.create_task(one(*each)) for each in numbered]
            else:
                tasks += [group.create_task(work()) for _ in range(limit)]
    finally:
        if isinstance(awaitables, list):
            _close(awaitables)
    if failures:
        raise failures[0]
    if any(task.cancelled() for task in tasks):
        raise asyncio.CancelledError  # by somebody who got hold of the task
    return [results[index] for index in range(len(results))]


async def until(awaitables: Iterable[Awaitable[T]], enough: Callable[[T], bool]) -> list[T]:
    """Awaits all at once, looks at the results in order, and cancels the rest after one is enough.

    Returns the results that were looked at; none was enough if it is not the last of them. What is
    cancelled is gone when this returns.

    A failure is looked at in its turn as well, and raised by itself: never before all earlier
    results are known, and not at all if one of them is enough. So what comes of it, result or
    failure, is the same whichever of them is faster, and the same as awaiting one after another.
    """
    awaitables = list(awaitables)
    results: list[T] = []
    failure: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(outcome_of(awaitable)) for awaitable in awaitables]
            for position, task in enumerate(tasks, 1):
                outcome = await task
                failure = outcome.failure
                try:
                    if failure is None:
                        results.append(outcome.result)  # type: ignore[arg-type]
                        if not enough(results[-1]):
                            continue
                except Exception as refused:  # noqa: BLE001 - raised below
                    failure = refused
                for later in tasks[position:]:
                    later.cancel()
                break
    finally:
        _close(awaitables)
    if failure is not None:
        raise failure
    return results


@dataclass(slots=True)
class Outcome(Generic[T]):
    """What came of an awaitable: its result, or what it raised."""

    result: T | None = None
    failure: BaseException | None = None

    def value(self) -> T:
        """The result.

        Raises:
            BaseException: what the awaitable raised.
        """
        if self.failure is not None:
            raise self.failure
        return self.result  # type: ignore[return-value]


async def outcome_of(awaitable: Awaitable[T]) -> Outcome[T]:
    """Awaits it. Cancelling the task that runs this, and a signal to the process, are no outcome.

    A task must not raise `SystemExit`, which would end its event loop, nor a `CancelledError` that
    nobody asked for, which would end it unnoticed: whoever started the task raises them.

    Raises:
        asyncio.CancelledError: if that task was cancelled.
    """
    try:
        return Outcome(await awaitable)
    except BaseException as failure:
        if is_order(failure):
            raise
        return Outcome(failure=failure)


def _close(awaitables: Iterable[object]) -> None:
    """Ends coroutines whose task was cancelled before it began: Python warns of them otherwise."""
    for awaitable in awaitables:
        if isinstance(awaitable, Coroutine):
            awaitable.close()

"""Structured concurrency: the only place where tasks are born."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from rsalign.core.foreign import is_order

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
    Whatever ends more than the attempt that it occurs in, such as a budget that is spent, waits for
    the attempt's turn as well (`wait_for_turn`).
    """
    awaitables = list(awaitables)
    results: list[T] = []
    failure: BaseException | None = None
    outer = current_turn()
    turns: list[Turn] = []
    tasks: list[asyncio.Task[Outcome[T]]] = []

    async def attempt(turn: Turn, awaitable: Awaitable[T]) -> Outcome[T]:
        _TURN.set(turn)  # in this task, and in those that it starts
        return await outcome_of(awaitable)

    try:
        async with asyncio.TaskGroup() as group:
            for awaitable in awaitables:
                turns.append(Turn(tasks, len(tasks), outer))
                tasks.append(group.create_task(attempt(turns[-1], awaitable)))
            for position, (turn, task) in enumerate(zip(turns, tasks, strict=True), 1):
                turn.come.set()
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


@dataclass(slots=True, eq=False)
class Turn:
    """The place of one attempt of `until` among the others.

    Attributes:
        attempts: all attempts, or at least those before it.
        position: its own place, from 0.
        outer: the turn of the attempt that called `until`; None if it was not called in one.
        come: set once all attempts before it were looked at and none was enough.
    """

    attempts: Sequence[asyncio.Task[Any]]
    position: int
    outer: "Turn | None"
    come: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def num_open(self) -> int:
        """How many attempts before it have no result yet."""
        return sum(not task.done() for task in self.attempts[: self.position])


_TURN: ContextVar[Turn | None] = ContextVar("turn", default=None)


def current_turn() -> Turn | None:
    """The turn of the attempt of `until` that calls this; None outside of one."""
    return _TURN.get()


async def wait_for_turn(outside: Turn | None = None) -> None:
    """Waits until no earlier attempt can make the one that calls this superfluous.

    That is, in an attempt of `until`, until all attempts before it were looked at and none was
    enough; if one of them is enough, this wait is cancelled together with the attempt. Outside of
    an attempt it returns at once.

    Args:
        outside: this turn, and those that it is nested in, are not waited for.
    """
    for turn in _turns(outside):
        await turn.come.wait()


def num_open_before(outside: Turn | None = None) -> int:
    """How many attempts before the one that calls this have no result yet.

    Args:
        outside: this turn, and those that it is nested in, are left out.
    """
    return sum(turn.num_open for turn in _turns(outside))


def _turns(outside: Turn | None) -> Iterator[Turn]:
    turn = _TURN.get()
    while turn is not None and turn is not outside:
        yield turn
        turn = turn.outer


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

"""Structured concurrency: the only module that starts tasks, so that none outlives its caller."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from rsalign.core.foreign import is_order

T = TypeVar("T")


async def concurrently(awaitables: Iterable[Awaitable[T]], *, limit: int | None = None) -> list[T]:
    """Awaits all awaitables concurrently and returns their results in order.

    The first failure cancels the others, waits until they have ended, and is raised unchanged (not
    in an exception group).

    Args:
        awaitables: with a limit, an iterator is advanced only when a place is free.
        limit: greatest number that run at once; None: no limit.

    Example:
        >>> async def double(x):
        ...     return 2 * x
        >>> asyncio.run(concurrently(map(double, range(4)), limit=2))
        [0, 2, 4, 6]
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
        if len(failures) == 1:  # later, so that results of this loop iteration are kept
            asyncio.get_running_loop().call_soon(cancel)

    def cancel() -> None:
        for task in tasks:
            task.cancel()

    try:
        # no task of the group raises: the group would then cancel the calling task, too
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
        raise asyncio.CancelledError  # other code cancelled one of the tasks
    return [results[index] for index in range(len(results))]


async def until(awaitables: Iterable[Awaitable[T]], enough: Callable[[T], bool]) -> list[T]:
    """Runs attempts concurrently, examines them in order, and stops after the first good one.

    The outcome equals that of awaiting the attempts one after another, whichever is faster. A
    failure is raised only after all earlier results are known, and not at all if one of them is
    enough. Anything that ends more than its own attempt, such as a spent budget, must wait for the
    attempt's turn, too (`wait_for_turn`).

    Args:
        awaitables: the attempts.
        enough: whether a result is good, so that the later attempts are cancelled.

    Returns:
        The results that were examined, in order. Only the last can be good. All cancelled attempts
        have ended.

    Example:
        >>> async def draw(x):
        ...     return x
        >>> asyncio.run(until(map(draw, [3, 8, 5, 9]), lambda x: x > 4))
        [3, 8]
    """
    awaitables = list(awaitables)
    results: list[T] = []
    failure: BaseException | None = None
    outer = current_turn()
    turns: list[Turn] = []
    tasks: list[asyncio.Task[Outcome[T]]] = []

    async def attempt(turn: Turn, awaitable: Awaitable[T]) -> Outcome[T]:
        _TURN.set(turn)  # for this task and those that it starts
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
    """The position of one attempt of `until` among the others.

    Attributes:
        attempts: the attempts, at least those before this one.
        position: index of this attempt.
        outer: the turn of the attempt that called `until`; None outside of attempts.
        come: set when all earlier attempts were examined and none was enough.
    """

    attempts: Sequence[asyncio.Task[Any]]
    position: int
    outer: "Turn | None"
    come: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def num_open(self) -> int:
        """Number of earlier attempts that have not ended yet."""
        return sum(not task.done() for task in self.attempts[: self.position])


_TURN: ContextVar[Turn | None] = ContextVar("turn", default=None)


def current_turn() -> Turn | None:
    """Returns the turn of the attempt of `until` that calls this; None outside of attempts."""
    return _TURN.get()


async def wait_for_turn(outside: Turn | None = None) -> None:
    """Waits, in an attempt of `until`, until it is certain that the attempt is needed.

    That is, until all earlier attempts were examined and none was enough. If one is enough, this
    wait is cancelled together with the attempt. Outside of attempts it returns at once.

    Args:
        outside: do not wait for this turn and the turns around it.
    """
    for turn in _turns(outside):
        await turn.come.wait()


def num_open_before(outside: Turn | None = None) -> int:
    """Returns how many attempts before the calling one have not ended yet.

    Args:
        outside: do not count for this turn and the turns around it.
    """
    return sum(turn.num_open for turn in _turns(outside))


def _turns(outside: Turn | None) -> Iterator[Turn]:
    turn = _TURN.get()
    while turn is not None and turn is not outside:
        yield turn
        turn = turn.outer


@dataclass(slots=True)
class Outcome(Generic[T]):
    """The result of an awaitable, or the exception that it raised.

    Example:
        >>> Outcome(result=3).value()
        3
    """

    result: T | None = None
    failure: BaseException | None = None

    def value(self) -> T:
        """Returns the result.

        Raises:
            BaseException: the exception of the awaitable, if it raised one.
        """
        if self.failure is not None:
            raise self.failure
        return self.result  # type: ignore[return-value]


async def outcome_of(awaitable: Awaitable[T]) -> Outcome[T]:
    """Awaits an awaitable and returns its result or exception.

    A task must not raise `SystemExit`, which would end its event loop, nor a `CancelledError` that
    nobody requested, which would end the task unnoticed. This function returns both as outcomes, so
    that the code that started the task can raise them.

    Raises:
        asyncio.CancelledError: if the running task was cancelled. A signal to the process is raised
            as well.
    """
    try:
        return Outcome(await awaitable)
    except BaseException as failure:
        if is_order(failure):
            raise
        return Outcome(failure=failure)


def _close(awaitables: Iterable[object]) -> None:
    """Closes coroutines whose task was cancelled before it began, of which Python would warn."""
    for awaitable in awaitables:
        if isinstance(awaitable, Coroutine):
            awaitable.close()

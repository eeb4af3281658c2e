"""Which requests a server takes on, which wait for room, and which are refused."""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from rsalign.core.errors import ConfigError, RsalignError

_WEIGHT = 0.1  # of the newest duration in the running mean


class BusyError(RsalignError):
    """The server cannot take on a request now.

    Attributes:
        reason: ``"busy"`` if it has no room, ``"stopping"`` if it is shutting down.
        retry_after_seconds: when it may, a whole number of at least 1.

    Example:
        >>> error = BusyError("no room for 8 draws", reason="busy", retry_after_seconds=2)
        >>> str(error), error.retry_after_seconds
        ('no room for 8 draws', 2)
    """

    def __init__(self, message: str, *, reason: str, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


@dataclass(slots=True, eq=False)
class Admission:
    """Takes on requests up to a limit of the draws that they can have open at once.

    A request for which there is no room waits in a bounded queue, first come, first served.

    Attributes:
        max_open: greatest number of draws that the requests under way can have open together; None
            is no limit.
        max_waiting: greatest number of requests that wait for room.
        max_wait_seconds: longest time that one waits.
        num_open: draws that the requests under way can have open.
        num_answers: answers under way.
        stopping: whether the server is shutting down, and takes on nothing more.
        on_change: called when any of these has changed; None: nobody is told.

    Example:
        >>> import asyncio
        >>> async def admit_to(admission):
        ...     async with admission.admit(answers=2, draws=16):
        ...         return admission.num_open
        >>> asyncio.run(admit_to(Admission(max_open=64)))
        16
    """

    max_open: int | None = None
    max_waiting: int = 0
    max_wait_seconds: float = 30.0
    num_open: int = 0
    num_answers: int = 0
    stopping: bool = False
    on_change: Callable[[], None] | None = field(default=None, repr=False)
    _mean_seconds: float = 1.0
    _waiting: "deque[tuple[int, asyncio.Future[bool]]]" = field(default_factory=deque)

    @property
    def num_waiting(self) -> int:
        """How many requests wait for room."""
        return len(self._waiting)

    @asynccontextmanager
    async def admit(self, *, answers: int, draws: int = 1) -> AsyncIterator[None]:
        """Holds room for a request while the block runs; waits for it if need be.

        Args:
            answers: that it asks for, of all of its prompts.
            draws: that it can have open at once. One that can have more than there will ever be
                room for counts as all of it: the draws wait for each other (`DrawWindow`).

        Raises:
            BusyError: if there is no room, and none in the queue or not in time, or if the
                server is shutting down.
            ConfigError: if there can never be room for so many answers.
        """
        draws = max(answers, draws)
        if self.max_open is not None:
            if answers > self.max_open:
                raise ConfigError(
                    f"{answers} answers are asked for at once, and this server never takes on more "
                    f"than {self.max_open}: ask for fewer (n, or prompts)"
                )
            draws = min(draws, self.max_open)
        await self._wait_for_room(draws)
        self.num_answers += answers
        self._tell()
        started = time.perf_counter()
        try:
            yield
        finally:
            self.num_answers -= answers
            self._mean_seconds += _WEIGHT * (time.perf_counter() - started - self._mean_seconds)
            self._give_back(draws)
            self._tell()

    def check_open(self) -> None:
        """Raises `BusyError` if the server is shutting down."""
        if self.stopping:
            raise BusyError(
                "this server is shutting down: ask another, or ask again later",
                reason="stopping",
                retry_after_seconds=self._estimate_wait(),
            )

    def stop(self) -> None:
        """Refuses all further requests, and those that wait."""
        self.stopping = True
        for _, waiter in self._waiting:
            waiter.set_result(False)
        self._waiting.clear()

    async def _wait_for_room(self, draws: int) -> None:
        self.check_open()
        if not self._waiting and self._has_room(draws):
            self.num_open += draws
            return
        if len(self._waiting) >= self.max_waiting:
            raise self._busy(draws)
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((draws, waiter))
        self._tell()
        try:
            await asyncio.wait([waiter], timeout=self.max_wait_seconds)
        except asyncio.CancelledError:
            self._withdraw(draws, waiter)
            raise
        if not waiter.done():
            self._withdraw(draws, waiter)
            raise self._busy(draws)
        if not waiter.result():
            self.check_open()

    def _withdraw(self, draws: int, waiter: "asyncio.Future[bool]") -> None:
        """Leaves the queue, or gives back the room that came just now."""
        if not waiter.done():
            self._waiting.remove((draws, waiter))
            self._pass_on()
        elif waiter.result():
            self._give_back(draws)

    def _has_room(self, draws: int) -> bool:
        return self.max_open is None or self.num_open + draws <= self.max_open

    def _give_back(self, draws: int) -> None:
        self.num_open -= draws
        self._pass_on()

    def _pass_on(self) -> None:
        """Gives room to those that have waited longest."""
        while self._waiting and self._has_room(self._waiting[0][0]):
            draws, waiter = self._waiting.popleft()
            self.num_open += draws
            waiter.set_result(True)

    def _busy(self, draws: int) -> BusyError:
        return BusyError(
            f"the requests under way can have {self.num_open} draws open, and this one {draws} "
            f"more, but this server takes on {self.max_open} at once: ask again later",
            reason="busy",
            retry_after_seconds=self._estimate_wait(),
        )

    def _tell(self) -> None:
        if self.on_change is not None:
            self.on_change()

    def _estimate_wait(self) -> int:
        return max(1, math.ceil(self._mean_seconds))

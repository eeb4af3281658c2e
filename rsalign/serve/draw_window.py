"""How many draws of strategies the engine has open at once, shared fairly among requests.

All draws of a pool would otherwise enter the engine's queue at once, and every other request would
wait for them. A draw that has no place waits here, where a request that comes later and asks for
less passes it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class DrawWindow:
    """Gives places to draws; a free place goes to the waiting request that holds the fewest.

    Attributes:
        size: number of places; None is no limit.
        size_beside: number of places while there are other requests; None: as many.
        has_others: tells whether there are any; None: there never are.
        num_open: how many are taken.
        on_change: called when that, or what waits, has changed; None: nobody is told.

    Example:
        >>> import asyncio
        >>> async def draw_in(window):
        ...     async with window.open_share().place():
        ...         return window.num_open
        >>> asyncio.run(draw_in(DrawWindow(4)))
        1
    """

    size: int | None = None
    size_beside: int | None = None
    has_others: Callable[[], bool] | None = field(default=None, repr=False)
    num_open: int = 0
    on_change: Callable[[], None] | None = field(default=None, repr=False)
    _waiting: "list[DrawShare]" = field(default_factory=list)

    def open_share(self) -> "DrawShare":
        """Returns the share of one request."""
        return DrawShare(self)

    @property
    def has_place(self) -> bool:
        """Whether a place is free now."""
        size = self.size
        if self.size_beside is not None and self.has_others is not None and self.has_others():
            size = self.size_beside
        return size is None or self.num_open < size

    @property
    def num_waiting(self) -> int:
        """How many draws wait for a place."""
        return sum(len(share.waiters) for share in self._waiting)

    def _take(self, share: "DrawShare") -> None:
        self.num_open += 1
        share.num_open += 1
        self._tell()

    def _tell(self) -> None:
        if self.on_change is not None:
            self.on_change()

    def _pass_on(self) -> None:
        """Gives free places to those that wait."""
        while self._waiting and self.has_place:
            share = min(self._waiting, key=lambda one: one.num_open)  # the first among equals
            waiter = share.waiters.popleft()
            if not share.waiters:
                self._waiting.remove(share)
            if not waiter.done():  # it may have been cancelled
                self._take(share)
                waiter.set_result(None)


@dataclass(slots=True, eq=False)
class DrawShare:
    """The draws of one request in a window.

    Attributes:
        window: that they take places in.
        num_open: how many it holds.
        waiters: of those that wait for one, in order.
    """

    window: DrawWindow
    num_open: int = 0
    waiters: "deque[asyncio.Future[None]]" = field(default_factory=deque)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Holds a place while the block runs; waits until there is one."""
        window = self.window
        if window._waiting or not window.has_place:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiters.append(waiter)
            if self not in window._waiting:
                window._waiting.append(self)
            window._pass_on()
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._give_back()  # it got its place in the moment it was cancelled
                raise
        else:
            window._take(self)
        try:
            yield
        finally:
            self._give_back()

    def _give_back(self) -> None:
        self.window.num_open -= 1
        self.num_open -= 1
        self.window._pass_on()
        self.window._tell()

"""How long an engine of this process has computed."""

import time
from typing import Any


class BusyTime:
    """Counts the seconds that an engine spends in its steps, from now on.

    Args:
        engine: of this process; its method `step` is replaced.

    Attributes:
        seconds: counted so far.
    """

    def __init__(self, engine: Any) -> None:
        self.seconds = 0.0
        step = engine.step

        def timed() -> None:
            started = time.perf_counter()
            step()
            self.seconds += time.perf_counter() - started

        engine.step = timed

    def take(self) -> float:
        """Returns the seconds so far, and counts from 0 again."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds

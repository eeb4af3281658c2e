"""How much a server takes on at once."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rsalign.core.errors import ConfigError, RsalignError

_WEIGHT = 0.1  # of the newest duration in the running mean


class BusyError(RsalignError):
    """There is no room for another request now.

    Attributes:
        retry_after_seconds: when there may be, a whole number of at least 1.
    """

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


@dataclass(slots=True)
class Admission:
    """Counts answers under way, and refuses more than there may be; nothing waits here.

    Attributes:
        max_open: greatest number of answers under way; None is no limit.
        num_open: how many there are.
    """

    max_open: int | None = None
    num_open: int = 0
    _mean_seconds: float = 1.0

    @contextmanager
    def admitted(self, answers: int) -> Iterator[None]:
        """Holds room for so many answers.

        Raises:
            BusyError: if there is none.
            ConfigError: if there can never be.
        """
        if self.max_open is not None and answers > self.max_open:
            raise ConfigError(
                f"{answers} answers are asked for at once, and this server never takes on more "
                f"than {self.max_open}: ask for fewer (n)"
            )
        if self.max_open is not None and self.num_open + answers > self.max_open:
            raise BusyError(
                f"{self.num_open} answers are under way and {answers} more are asked for, but this "
                f"server takes on {self.max_open} at once: ask again later",
                retry_after_seconds=max(1, math.ceil(self._mean_seconds)),
            )
        self.num_open += answers
        started = time.perf_counter()
        try:
            yield
        finally:
            self.num_open -= answers
            self._mean_seconds += _WEIGHT * (time.perf_counter() - started - self._mean_seconds)

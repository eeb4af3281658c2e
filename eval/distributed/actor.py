"""The shell around a worker in an actor: when it starts, and what becomes of a failed start."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from eval.optional import require

Batch: TypeAlias = Mapping[str, Sequence[Any]]
"""Columns of equal length."""


class Actor:
    """Starts its worker at once, or, in a process that takes the place of a dead one, when needed.

    A first start that fails shall end the job. A later one may fail because what died still holds
    its memory, and an actor that Ray cannot restart would keep its batches waiting for ever
    (https://github.com/ray-project/ray/issues/62746): the batch is lost instead, and the next one
    tries again.

    Args:
        worker: makes the worker.
        arguments: of `worker`.
    """

    def __init__(
        self, worker: Callable[..., Callable[[Batch], Batch]], arguments: Sequence[Any]
    ) -> None:
        self._make: Callable[[], Callable[[Batch], Batch]] = lambda: worker(*arguments)
        self._lock = threading.Lock()
        restarted = require("ray", "workers").get_runtime_context().was_current_actor_reconstructed
        self._worker = None if restarted else self._make()

    def __call__(self, batch: Batch) -> Batch:
        """What the worker makes of a batch; several threads may call."""
        with self._lock:
            if self._worker is None:
                self._worker = self._make()
        return self._worker(batch)

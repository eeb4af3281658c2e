"""Which requests are in which rows of the batch of vLLM's first model runner."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from rsalign.engines.vllm.logits_processors_v1 import BatchUpdate, MoveDirectionality
from rsalign.engines.vllm.tensors import async_tensor_h2d
from rsalign.hooks.shared.memory import R
from rsalign.hooks.shared.v1_memory import V1Memory, V1Owner

if TYPE_CHECKING:
    from vllm import SamplingParams

T = TypeVar("T")


class BatchRows(Generic[T]):
    """What a hook stores for each row of the batch.

    Args:
        enter: returns what to store for a new row, or None for a row that the hook leaves alone.
            Its arguments are the request's parameters, its prompt (None if that has only
            embeddings) and the list to which vLLM appends its tokens.
        leave: called with what was stored for a row whose request ended or was preempted.

    Attributes:
        stored: by row.
    """

    def __init__(
        self,
        enter: Callable[["SamplingParams", list[int] | None, list[int]], T | None],
        leave: Callable[[T], None],
    ) -> None:
        self.stored: dict[int, T] = {}
        self._enter = enter
        self._leave = leave

    def follow(self, update: BatchUpdate | None) -> None:
        """Applies a change of the batch: removals, additions and moves, in this order."""
        if update is None:
            return
        for row in update.removed:
            self._remove(row)
        for row, params, prompt, drawn in update.added:
            self._remove(row)
            new = self._enter(params, prompt, drawn)
            if new is not None:
                self.stored[row] = new
        for one, other, direction in update.moved:
            moved, replaced = self.stored.pop(one, None), self.stored.pop(other, None)
            if moved is not None:
                self.stored[other] = moved
            if replaced is not None and direction == MoveDirectionality.SWAP:
                self.stored[one] = replaced
            elif replaced is not None:
                self._leave(replaced)

    def _remove(self, row: int) -> None:
        gone = self.stored.pop(row, None)
        if gone is not None:
            self._leave(gone)


class ServedRows(Generic[R]):
    """The requests of the batch that a hook serves, in the order of vLLM's rows.

    Args:
        memory: of the hook.
        enter: returns the owner of a new request that the hook serves, given its parameters and
            the list to which vLLM appends its tokens; None for other requests.
        device: of the logits.

    Attributes:
        owners: in ascending order of `indices`; replaced when the batch changes.
        indices: their rows in the batch, on the device, ``(rows,)``.
        slots: their slots of the memory, on the device, ``(rows,)``.
    """

    def __init__(
        self,
        memory: V1Memory[R],
        enter: "Callable[[SamplingParams, Sequence[int]], V1Owner[R] | None]",
        device: torch.device,
    ) -> None:
        self._device = device
        self._rows = BatchRows(lambda params, _, drawn: enter(params, drawn), memory.leave)
        self.owners: list[V1Owner[R]] = []
        self.indices = self.slots = torch.empty(0, dtype=torch.int64, device=device)

    def follow(self, update: BatchUpdate | None) -> bool:
        """Applies a change of the batch; returns whether anything changed for this hook."""
        if update is None:
            return False
        before = dict(self._rows.stored)
        self._rows.follow(update)
        if self._rows.stored == before:
            return False
        indices = sorted(self._rows.stored)
        self.owners = [self._rows.stored[index] for index in indices]
        self.indices = self._send(indices)
        self.slots = self._send([owner.slot for owner in self.owners])
        return True

    def num_drawn(self) -> Tensor:
        """Returns how many tokens each request has drawn, ``(rows,)``.

        The host knows these numbers and sends them, so that it never waits for the device.
        """
        return self._send([len(owner.drawn) for owner in self.owners])

    def last_tokens(self, none: int) -> Tensor:
        """Returns the token that each request drew last, `none` if it drew none, ``(rows,)``."""
        return self._send([owner.drawn[-1] if owner.drawn else none for owner in self.owners])

    def _send(self, values: list[int]) -> Tensor:
        # by way of an array, which takes half the time that a tensor takes from a list
        return async_tensor_h2d(np.array(values), self._device)

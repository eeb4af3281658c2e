"""Where on the device a hook keeps what belongs to a request."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

import torch
from torch import Tensor

from rsalign.engines.reports import is_awaited

R = TypeVar("R")
Device: TypeAlias = torch.device

_UNKNOWN = -float("inf")


@dataclass(eq=False, slots=True)
class Row(Generic[R]):
    """A request that is or was in the batch.

    Attributes:
        request: what it asks for.
        drawn: its tokens: vLLM's own list, which grows.
        slot: of `Places.memory`.
        ticket: under which it is reported; empty: it is not.
        kept: what was in its slot, if another request has that now.
    """

    request: R
    drawn: Sequence[int]
    slot: int
    ticket: str
    kept: Tensor | None = None


class Places(Generic[R]):
    """Who owns which slot of `memory`.

    vLLM removes a request from the batch when it has ended, but also when it is preempted, and then
    brings it back with the same list of drawn tokens. Preempted requests come before new ones, so
    that at most twice `max_num_seqs` others leave meanwhile.

    Attributes:
        memory: -infinity where nothing is known, ``(slots, *shape)``; replaced by a larger one when
            there is no room.
    """

    def __init__(
        self,
        max_num_seqs: int,
        shape: tuple[int, ...],
        device: Device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.memory = torch.empty((0, *shape), device=device, dtype=dtype)
        self._most = 3 * max_num_seqs
        self._free: list[int] = []
        self._left: OrderedDict[int, Row[R]] = OrderedDict()

    def take(self, request: R, drawn: Sequence[int], ticket: str) -> Row[R]:
        """The row of a request that enters the batch, for the first time or again."""
        row = self._left.pop(id(drawn), None)  # `_left` holds the list, so that no other has its id
        if row is not None:
            return row
        slot = self._free.pop() if self._free else self._another()
        row = Row(request, drawn, slot, ticket)
        self.memory[row.slot] = _UNKNOWN
        return row

    def leave(self, row: Row[R]) -> None:
        """It leaves the batch; what is known of it stays."""
        self._left[id(row.drawn)] = row

    def widen(self, width: int) -> None:
        """Gives every request room for at least so many values along its first axis.

        It doubles, so that it is seldom done, and takes no more than twice what has been needed: a
        request may ask for far more tokens than it draws.
        """
        slots, before, *rest = self.memory.shape
        if width > before:
            added = self.memory.new_full((slots, max(width, 2 * before) - before, *rest), _UNKNOWN)
            self.memory = torch.cat((self.memory, added), 1)

    def read(self, row: Row[R], num: int) -> Tensor:
        """A copy of a row's first `num` values along its first axis; on any thread."""
        values = self.memory[row.slot, :num].clone()
        if row.kept is not None:  # looked at last: the slot may get another owner at any time
            values = row.kept[:num]
        return values

    def _another(self) -> int:
        """A slot that is new, if there may be more; else that of whoever left longest ago."""
        key, oldest = next(iter(self._left.items()), (0, None))
        slots = len(self.memory)
        if oldest is None or (slots < self._most and not _was_read(oldest)):
            added = min(self._most, max(32, 2 * slots)) - slots
            new = self.memory.new_full((added, *self.memory.shape[1:]), _UNKNOWN)
            self.memory = torch.cat((self.memory, new))
            self._free += range(slots, slots + added)
            return self._free.pop()
        del self._left[key]
        if is_awaited(oldest.ticket):
            oldest.kept = self.memory[oldest.slot, : len(oldest.drawn) + 1].clone()
        return oldest.slot


def _was_read(row: Row[R]) -> bool:
    return bool(row.ticket) and not is_awaited(row.ticket)

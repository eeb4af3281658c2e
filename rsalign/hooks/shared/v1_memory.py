"""The memory of a hook in vLLM's first model runner, which reuses rows and names no slots."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rsalign.engines.reports import is_unread
from rsalign.hooks.shared.memory import UNKNOWN, Owner, R, RequestMemory


@dataclass(eq=False, slots=True, kw_only=True)
class V1Owner(Owner[R]):
    """A request that is or was in the batch.

    Attributes:
        drawn: its tokens: vLLM's own list, to which vLLM appends.
        ticket: of its report; empty if it asks for none.
    """

    drawn: Sequence[int]
    ticket: str


class V1Memory(RequestMemory[R]):
    """Gives each request in the batch a slot of its own.

    vLLM removes a request from the batch when it has ended, but also when it is preempted. It then
    brings the request back with the same list of drawn tokens, by which it is recognised here.
    Preempted requests come before new ones, so that at most twice `max_num_seqs` others leave the
    batch meanwhile: that many slots of requests that left are kept.

    Args:
        max_num_seqs: the greatest number of requests in the batch.
        shape: of the values of one request.
        device: where the values are.
        dtype: of the values.
    """

    def __init__(
        self,
        max_num_seqs: int,
        shape: tuple[int, ...],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(0, shape, device, dtype)
        self._max_slots = 3 * max_num_seqs
        self._free: list[int] = []
        self._left: OrderedDict[int, V1Owner[R]] = OrderedDict()

    def enter(self, request: R, drawn: Sequence[int], ticket: str) -> V1Owner[R]:
        """Returns the owner for a request that enters the batch, for the first time or again.

        Args:
            request: what it asks of the hook.
            drawn: the list to which vLLM appends its tokens.
            ticket: of its report, or empty.
        """
        owner = self._left.pop(id(drawn), None)  # `_left` holds the list: no other has its id
        if owner is not None:
            return owner
        slot = self._free.pop() if self._free else self._free_slot()
        self.values[slot] = UNKNOWN
        return V1Owner(request=request, slot=slot, drawn=drawn, ticket=ticket)

    def leave(self, owner: V1Owner[R]) -> None:
        """Notes that a request has left the batch; its values stay for now."""
        self._left[id(owner.drawn)] = owner

    def _free_slot(self) -> int:
        """A new slot if there may be more; otherwise that of the request that left longest ago."""
        key, oldest = next(iter(self._left.items()), (0, None))
        slots = len(self.values)
        if oldest is None or (slots < self._max_slots and not _was_read(oldest)):
            added = min(self._max_slots, max(32, 2 * slots)) - slots
            self.add_slots(added)
            self._free += range(slots, slots + added)
            return self._free.pop()
        del self._left[key]
        if is_unread(oldest.ticket):
            oldest.kept = self.values[oldest.slot, : len(oldest.drawn) + 1].clone()
        return oldest.slot


def _was_read(owner: V1Owner[R]) -> bool:
    return bool(owner.ticket) and not is_unread(owner.ticket)

"""What a hook knows of the request in each of vLLM's slots."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor
from vllm.utils.torch_utils import async_tensor_h2d
from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcRequestState

from rsalign.engines.reports import Reading, is_awaited, publish

R = TypeVar("R")
_UNKNOWN = -float("inf")


@dataclass(eq=False, slots=True)
class Owner(Generic[R]):
    """A request that is or was in a slot.

    Attributes:
        request: what it asks for.
        slot: where it is, or was last.
        kept: what was in its slot, if another request has that now.
    """

    request: R
    slot: int
    kept: Tensor | None = None


class Slots(Generic[R]):
    """The requests that a hook serves, by vLLM's slots.

    vLLM names a preempted request anew when it brings it back, and does not say that it knows it.
    One that has a ticket is recognised by it: no two that are open may have the same.

    Args:
        states: vLLM's.
        shape: of what is remembered of a request.
        report: what to publish of one that has a ticket.
        dtype: of what is remembered.

    Attributes:
        owners: of the slots; None: it asks for nothing, ``(max_num_reqs,)``.
        memory: -infinity where nothing is known, ``(max_num_reqs, *shape)``.
    """

    def __init__(
        self,
        states: LogitsProcRequestState,
        shape: tuple[int, ...],
        report: Callable[[Owner[R], int], Reading],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._states = states
        self._report = report
        self._with_ticket: dict[str, Owner[R]] = {}
        self._asks = np.zeros(states.max_num_reqs, dtype=bool)
        self._layout: tuple[Any, Tensor | None] = (np.empty(0), None)
        self.owners: list[Owner[R] | None] = [None] * states.max_num_reqs
        self.memory = torch.full(
            (states.max_num_reqs, *shape), _UNKNOWN, device=states.device, dtype=dtype
        )

    def enter(self, slot: int, request: R | None, ticket: str = "") -> bool:
        """A request has got a slot; None asks for nothing. Returns whether anything is new."""
        before = self.owners[slot]
        if request is None and before is None:
            return False
        if before is not None:
            before.kept = self.memory[slot].clone()
        self.owners[slot] = None if request is None else self._owner(slot, request, ticket)
        self._asks[slot] = request is not None
        self._layout = (np.empty(0), None)
        return True

    def rows(self, slots: Any) -> Tensor | None:
        """The rows of a batch that ask; sent to the device when the batch has changed.

        Args:
            slots: of all rows, on the host, ``(batch,)``.

        Returns:
            In ascending order, ``(rows,)``; None if there are none.
        """
        known, rows = self._layout
        if not np.array_equal(known, slots):
            asking = np.flatnonzero(self._asks[slots])
            rows = async_tensor_h2d(asking, self._states.device) if asking.size else None
            self._layout = (np.array(slots), rows)
        return rows

    def num_drawn(self, rows: Tensor, slots: Tensor, ctx: LogitsContext) -> Tensor:
        """How many tokens rows have drawn; 0 or below within a prompt, ``(rows,)``."""
        return ctx.pos[rows].long() + 1 - self._states.prompt_len.gpu[slots]

    def most_drawn(self, ctx: LogitsContext) -> int:
        """How many tokens any row that asks has drawn at most, known without asking the device."""
        slots = ctx.idx_mapping_np
        drawn = ctx.seq_lens_upper_bound_np - self._states.prompt_len.np[slots]
        return int(drawn[self._asks[slots]].max(initial=0))

    def widen(self, width: int) -> None:
        """Gives every request room for at least so many values along its first axis.

        It doubles, so that it is seldom done, and takes no more than twice what has been needed: a
        request may ask for far more tokens than it draws.
        """
        slots, before, *rest = self.memory.shape
        if width > before:
            added = self.memory.new_full((slots, max(width, 2 * before) - before, *rest), _UNKNOWN)
            self.memory = torch.cat((self.memory, added), 1)

    def read(self, owner: Owner[R], num: int) -> Tensor:
        """A copy of the first `num` values along a request's first axis; on any thread."""
        values = self.memory[owner.slot, :num].clone()
        if owner.kept is not None:  # looked at last: the slot may get another owner at any time
            values = owner.kept[:num]
        return values

    def _owner(self, slot: int, request: R, ticket: str) -> Owner[R]:
        self.memory[slot] = _UNKNOWN
        owner = self._with_ticket.get(ticket) if is_awaited(ticket) else None
        if owner is not None:
            known = self.read(owner, len(self.memory[slot]))
            self.memory[slot, : len(known)] = known
            if owner.kept is None:
                self.owners[owner.slot], self._asks[owner.slot] = None, False
            owner.slot, owner.kept = slot, None
            return owner
        owner = Owner(request, slot)
        if ticket:
            self._forget()
            self._with_ticket[ticket] = owner
            publish(ticket, lambda num_drawn: self._report(owner, num_drawn))
        return owner

    def _forget(self) -> None:
        if len(self._with_ticket) > 4 * len(self.owners):
            self._with_ticket = {t: o for t, o in self._with_ticket.items() if is_awaited(t)}

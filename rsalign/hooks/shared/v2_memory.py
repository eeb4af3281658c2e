"""The memory of a hook in vLLM's second model runner, which names a slot for each request."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rsalign.core.errors import ConfigError
from rsalign.engines.reports import Report, is_unread, publish_report
from rsalign.engines.vllm.logits_processors import refuse_sharded_sampling
from rsalign.engines.vllm.logits_processors_v2 import LogitsContext, LogitsProcRequestState
from rsalign.engines.vllm.tensors import async_tensor_h2d
from rsalign.hooks.shared.memory import UNKNOWN, Owner, R, RequestMemory
from rsalign.hooks.shared.v2_resumed import LeftRequests

if TYPE_CHECKING:
    from vllm.config import VllmConfig


class V2Memory(RequestMemory[R]):
    """The requests that a hook serves, by vLLM's slots.

    vLLM gives a preempted request another slot when it brings it back, and does not say that it is
    the same request. One that has a ticket is recognised by it: no two open requests may share one.
    Others are recognised by their tokens (`rsalign.hooks.shared.v2_resumed`).

    Args:
        states: vLLM's, of all requests.
        shape: of the values of one request.
        report: makes the report of a request that has a ticket.
        dtype: of the values.

    Attributes:
        owners: by slot; None where the request asks nothing of the hook, ``(max_num_reqs,)``.
    """

    def __init__(
        self,
        states: LogitsProcRequestState,
        shape: tuple[int, ...],
        report: Callable[[Owner[R], int], Report],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(states.max_num_reqs, shape, states.device, dtype)
        self._states = states
        self._report = report
        self._with_ticket: dict[str, Owner[R]] = {}
        self._left = LeftRequests(states, shape, dtype)
        self._identities: dict[int, int] = {}  # by slot, of requests without a ticket
        self._resumed: list[int] = []
        self._is_served = np.zeros(states.max_num_reqs, dtype=bool)
        self._layout: tuple[Any, Tensor | None] = (np.empty(0), None)
        self.owners: list[Owner[R] | None] = [None] * states.max_num_reqs

    def enter(self, slot: int, request: R | None, ticket: str = "") -> bool:
        """Notes which request a slot has now.

        Args:
            slot: vLLM's.
            request: what it asks of the hook; None for nothing.
            ticket: of its report, or empty.

        Returns:
            Whether anything changed for this hook.
        """
        before = self.owners[slot]
        if request is None and before is None:
            return False
        if before is not None:
            before.kept = self.values[slot].clone()
        if slot in self._identities:
            self._left.add(slot, self._identities.pop(slot), self.values[slot])
        self.owners[slot] = None if request is None else self._owner(slot, request, ticket)
        self._is_served[slot] = request is not None
        self._layout = (np.empty(0), None)
        return True

    def restore(self) -> None:
        """Gives requests without a ticket that have come back what was remembered of them.

        Called once a step, when vLLM has written the tokens of new requests.
        """
        if not self._resumed:
            return
        identities = self._identities
        resumed = {slot: identities[slot] for slot in self._resumed}
        others = {slot: own for slot, own in identities.items() if slot not in resumed}
        self._left.restore(self.values, resumed, others)
        self._resumed = []

    def served_rows(self, slots: Any) -> Tensor | None:
        """Returns the rows of a batch that the hook serves; sent only when the batch has changed.

        Args:
            slots: of all rows, on the host, ``(batch,)``.

        Returns:
            In ascending order, ``(rows,)``; None if there are none.
        """
        known, rows = self._layout
        if not np.array_equal(known, slots):
            served = np.flatnonzero(self._is_served[slots])
            rows = async_tensor_h2d(served, self._states.device) if served.size else None
            self._layout = (np.array(slots), rows)
        return rows

    def num_drawn(self, rows: Tensor, slots: Tensor, ctx: LogitsContext) -> Tensor:
        """Returns how many tokens rows have drawn, ``(rows,)``; 0 or below within a prompt."""
        return ctx.pos[rows].long() + 1 - self._states.prompt_len.gpu[slots]

    def max_num_drawn(self, ctx: LogitsContext) -> int:
        """Returns an upper bound of `num_drawn`, known without waiting for the device."""
        slots = ctx.idx_mapping_np
        drawn = ctx.seq_lens_upper_bound_np - self._states.prompt_len.np[slots]
        return int(drawn[self._is_served[slots]].max(initial=0))

    def _owner(self, slot: int, request: R, ticket: str) -> Owner[R]:
        self.values[slot] = UNKNOWN
        owner = self._with_ticket.get(ticket) if is_unread(ticket) else None
        if owner is not None:
            known = self.read(owner, len(self.values[slot]))
            self.values[slot, : len(known)] = known
            if owner.kept is None:
                self.owners[owner.slot], self._is_served[owner.slot] = None, False
            owner.slot, owner.kept = slot, None
            return owner
        owner = Owner(request=request, slot=slot)
        if ticket:
            self._forget_read()
            self._with_ticket[ticket] = owner
            publish_report(ticket, lambda num_drawn: self._report(owner, num_drawn))
            return owner
        prompt_len = int(self._states.prompt_len.np[slot])
        self._identities[slot] = hash((request, prompt_len))
        if self._states.prefill_len.np[slot] > prompt_len:
            self._resumed.append(slot)
        return owner

    def _forget_read(self) -> None:
        if len(self._with_ticket) > 4 * len(self.owners):
            self._with_ticket = {t: o for t, o in self._with_ticket.items() if is_unread(t)}


def check_engine(config: "VllmConfig") -> None:
    """Refuses an engine in which our hooks cannot work; each of them calls it when it starts.

    Raises:
        ConfigError: names the setting.
    """
    refuse_speculation(config)
    refuse_sharded_sampling(config)


def refuse_speculation(config: "VllmConfig") -> None:
    """Refuses an engine with speculative decoding, in which a request has several rows of logits.

    The hooks find a request's row by its place in the batch, so that each would change another's.
    vLLM's first model runner refuses such an engine by itself.

    Raises:
        ConfigError: when the engine starts.
    """
    speculative = getattr(config, "speculative_config", None)
    if speculative is not None:
        raise ConfigError(
            f"speculative_config={speculative!r}: rsalign's logits hooks need one row of logits "
            "for each request; start the engine without speculative decoding, or without them "
            "(logits_processors)"
        )

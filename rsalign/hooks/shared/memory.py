"""What a hook remembers of requests from step to step, on the device: for both model runners."""

from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

R = TypeVar("R")

UNKNOWN = -float("inf")
"""What a remembered value is before it is written."""


@dataclass(eq=False, slots=True, kw_only=True)
class Owner(Generic[R]):
    """A request that has a slot of the memory, or had one.

    Attributes:
        request: what it asks of the hook.
        slot: the slot that it has, or had last.
        kept: a copy of its values, made when another request took over the slot; None before.
    """

    request: R
    slot: int
    kept: Tensor | None = None


class RequestMemory(Generic[R]):
    """Values of each request in a slot of its own.

    Attributes:
        values: `UNKNOWN` where nothing was written, ``(slots, *shape)``. Replaced by a larger
            tensor when there is no room.
    """

    def __init__(
        self, num_slots: int, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype
    ) -> None:
        self.values = torch.full((num_slots, *shape), UNKNOWN, device=device, dtype=dtype)

    def widen(self, width: int) -> None:
        """Makes room for at least `width` values along the first axis of every slot.

        The room doubles, so that this is seldom done, and is at most twice what was needed: a
        request may ask for far more tokens than it draws.
        """
        slots, before, *rest = self.values.shape
        if width > before:
            added = self.values.new_full((slots, max(width, 2 * before) - before, *rest), UNKNOWN)
            self.values = torch.cat((self.values, added), 1)

    def add_slots(self, num_slots: int) -> None:
        """Adds so many empty slots after the others."""
        added = self.values.new_full((num_slots, *self.values.shape[1:]), UNKNOWN)
        self.values = torch.cat((self.values, added))

    def read(self, owner: Owner[R], num: int) -> Tensor:
        """Copies the first `num` values of a request along their first axis; on any thread."""
        values = self.values[owner.slot, :num].clone()
        if owner.kept is not None:  # tested last: the slot may get another owner at any time
            values = owner.kept[:num]
        return values

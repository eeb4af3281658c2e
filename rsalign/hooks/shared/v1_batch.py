"""Which rows of vLLM's batch belong to a hook."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic

import numpy as np
import torch
from torch import Tensor
from vllm.utils.torch_utils import async_tensor_h2d
from vllm.v1.sample.logits_processor import BatchUpdate

from rsalign.hooks.shared.v1_places import Device, Places, R, Row
from rsalign.hooks.shared.v1_rows import Rows

if TYPE_CHECKING:
    from vllm import SamplingParams


class Batch(Generic[R]):
    """The requests that a hook serves, in the order of vLLM's rows.

    Attributes:
        rows: in ascending order of `indices`; replaced when the batch changes.
        indices: of their rows in the batch, on the device, ``(rows,)``.
        slots: of `Places.memory`, on the device, ``(rows,)``.
    """

    def __init__(
        self,
        places: Places[R],
        enter: "Callable[[SamplingParams, Sequence[int]], Row[R] | None]",
        device: Device,
    ) -> None:
        self._device = device
        self._rows = Rows(lambda params, _, drawn: enter(params, drawn), places.leave)
        self.rows: list[Row[R]] = []
        self.indices = self.slots = torch.empty(0, dtype=torch.int64, device=device)

    def follow(self, update: BatchUpdate | None) -> bool:
        """Removed, added, moved, in this order.

        Returns:
            Whether it changed for this hook.
        """
        if update is None:
            return False
        before = dict(self._rows.at)
        self._rows.follow(update)
        if self._rows.at == before:
            return False
        indices = sorted(self._rows.at)
        self.rows = [self._rows.at[index] for index in indices]
        self.indices = self._send(indices)
        self.slots = self._send([row.slot for row in self.rows])
        return True

    def num_drawn(self) -> Tensor:
        """How many tokens each has drawn, ``(rows,)``.

        Lengths are the host's own: the device is told, and never asked.
        """
        return self._send([len(row.drawn) for row in self.rows])

    def last_tokens(self, none: int) -> Tensor:
        """The token that each has drawn last, `none` where there is none, ``(rows,)``."""
        return self._send([row.drawn[-1] if row.drawn else none for row in self.rows])

    def _send(self, values: list[int]) -> Tensor:
        # by way of an array, which takes half the time that a tensor takes from a list
        return async_tensor_h2d(np.array(values), self._device)

"""Arithmetic sampling for vLLM's first model runner."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor

from rsalign.hooks.arithmetic.request import ArithmeticRequest, read_arithmetic_request
from rsalign.hooks.arithmetic.rule import STATE, Codes
from rsalign.hooks.shared.v1_batch import Batch
from rsalign.hooks.shared.v1_places import Device, Places, Row

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig


class Arithmetic(LogitsProcessor):  # type: ignore[misc] # mypy does not follow vLLM
    """Spreads the samples of the requests that ask (`rsalign.hooks.arithmetic.rule`); no others.

    Each sample keeps its law: temperature, penalties and truncation included.
    """

    @classmethod
    def validate_params(cls, sampling_params: "SamplingParams") -> None:
        """Refuses what `read_arithmetic_request` refuses; vLLM hands the message to the caller."""
        read_arithmetic_request(sampling_params)

    def __init__(self, vllm_config: "VllmConfig", device: Device, is_pin_memory: bool) -> None:
        self._device = device
        self._places: Places[ArithmeticRequest] = Places(
            vllm_config.scheduler_config.max_num_seqs, STATE, device, torch.float64
        )
        self._batch = Batch(self._places, self._enter, device)
        self._codes: Codes | None = None

    def is_argmax_invariant(self) -> bool:
        """No greedy request can ask, and those that can are seen after temperature and `min_p`."""
        return True

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follows the batch."""
        if self._batch.follow(batch_update):
            self._codes = None

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """One step for the rows that ask; in place."""
        batch = self._batch
        if not batch.rows:
            return logits
        if self._codes is None:
            requests = [row.request for row in batch.rows]
            self._codes = Codes.of(requests, logits.shape[-1], self._device, tempered=True)
        memory = self._places.memory
        self._codes.choose(logits, batch.indices, batch.slots, batch.num_drawn(), memory)
        return logits

    def _enter(
        self, params: "SamplingParams", drawn: Sequence[int]
    ) -> Row[ArithmeticRequest] | None:
        request = read_arithmetic_request(params)
        return None if request is None else self._places.take(request, drawn, "")

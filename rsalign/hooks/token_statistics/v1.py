"""The token statistics for vLLM's first model runner."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor

from rsalign.engines.reports import Reading, publish
from rsalign.hooks.shared.readings import statistics_reading
from rsalign.hooks.shared.v1_batch import Batch
from rsalign.hooks.shared.v1_places import Device, Places, Row
from rsalign.hooks.token_statistics.request import StatisticsRequest, read_statistics_request
from rsalign.hooks.token_statistics.rule import record_statistics

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig


_WIDTH = 32  # tokens of a request that there is room for at first


class TokenStatistics(LogitsProcessor):  # type: ignore[misc] # mypy does not follow vLLM
    """Measures the requests that ask, by `record_statistics`; changes no logits.

    vLLM calls it before temperature and truncation, and after what changes the model's law itself
    (allowed tokens, logit bias). Name it before `SegmentEnd`.
    """

    @classmethod
    def validate_params(cls, sampling_params: "SamplingParams") -> None:
        """Refuses what `read_statistics_request` refuses; vLLM hands the message to the caller."""
        read_statistics_request(sampling_params)

    def __init__(self, vllm_config: "VllmConfig", device: Device, is_pin_memory: bool) -> None:
        self._places: Places[StatisticsRequest] = Places(
            vllm_config.scheduler_config.max_num_seqs, (_WIDTH, 2), device
        )
        self._batch = Batch(self._places, self._enter, device)

    def is_argmax_invariant(self) -> bool:
        """It is, but to say so would have it called after temperature, and not by greedy ones."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follows the batch."""
        self._batch.follow(batch_update)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """One step for the rows that ask."""
        batch = self._batch
        if batch.rows:
            # each has its next token's law yet to be written
            self._places.widen(1 + max(len(row.drawn) for row in batch.rows))
            record_statistics(
                logits, batch.indices, batch.slots, batch.num_drawn(), self._places.memory
            )
        return logits

    def _enter(
        self, params: "SamplingParams", drawn: Sequence[int]
    ) -> Row[StatisticsRequest] | None:
        request = read_statistics_request(params)
        if request is None:
            return None
        row = self._places.take(request, drawn, request.ticket)
        publish(row.ticket, lambda num_drawn: self._report(row, num_drawn))
        return row

    def _report(self, row: Row[StatisticsRequest], num_drawn: int) -> Reading:
        return statistics_reading(self._places.read(row, num_drawn + 1))

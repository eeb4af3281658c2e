"""The token statistics for vLLM's second model runner."""

from typing import TYPE_CHECKING

import torch
from vllm.v1.worker.gpu.sample.logits_processor import (
    LogitsContext,
    LogitsProcessor,
    LogitsProcRequestState,
)

from rsalign.engines.reports import Reading
from rsalign.hooks.shared.readings import statistics_reading
from rsalign.hooks.shared.v2_slots import Owner, Slots
from rsalign.hooks.shared.v2_speculation import refuse_speculation
from rsalign.hooks.token_statistics.request import StatisticsRequest, read_statistics_request
from rsalign.hooks.token_statistics.rule import record_statistics

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig


_WIDTH = 32  # tokens of a request that there is room for at first


class TokenStatistics(LogitsProcessor):  # type: ignore[misc] # mypy does not follow vLLM
    """Measures the requests that ask, by `record_statistics`; changes no logits.

    vLLM calls it before temperature and truncation, and after what changes the model's law itself
    (allowed tokens, logit bias, penalties). Name it before `SegmentEnd`.
    """

    @classmethod
    def validate_params(cls, sampling_params: "SamplingParams") -> None:
        """Refuses what `read_statistics_request` refuses; vLLM hands the message to the caller."""
        read_statistics_request(sampling_params)

    def __init__(self, vllm_config: "VllmConfig", req_states: LogitsProcRequestState) -> None:
        refuse_speculation(vllm_config)
        self._slots: Slots[StatisticsRequest] = Slots(req_states, (_WIDTH, 2), self._report)

    def add_request(self, req_idx: int, sampling_params: "SamplingParams") -> bool:
        """Forgets the slot's last owner; says whether it is to be called for this one."""
        request = read_statistics_request(sampling_params)
        if request is None:
            self._slots.enter(req_idx, None)
            return False
        self._slots.enter(req_idx, request, request.ticket)
        return True

    def apply(self, logits: torch.Tensor, ctx: LogitsContext) -> torch.Tensor:
        """One step for the rows that ask."""
        rows = self._slots.rows(ctx.idx_mapping_np)
        if rows is not None:
            slots = ctx.idx_mapping[rows].long()
            drawn = self._slots.num_drawn(rows, slots, ctx)
            # each has its next token's law yet to be written
            self._slots.widen(1 + self._slots.most_drawn(ctx))
            record_statistics(logits, rows, slots, drawn, self._slots.memory)
        return logits

    def _report(self, owner: Owner[StatisticsRequest], num_drawn: int) -> Reading:
        return statistics_reading(self._slots.read(owner, num_drawn + 1))

"""`TokenStatistics` for vLLM's second model runner."""

from typing import TYPE_CHECKING

import torch

from rsalign.engines.reports import Report
from rsalign.engines.vllm.logits_processors_v2 import (
    LogitsContext,
    LogitsProcessor,
    LogitsProcRequestState,
)
from rsalign.hooks.shared.memory import Owner
from rsalign.hooks.shared.reports import statistics_report
from rsalign.hooks.shared.v2_memory import V2Memory, check_engine
from rsalign.hooks.token_statistics.request import StatisticsRequest, read_statistics_request
from rsalign.hooks.token_statistics.rule import INITIAL_WIDTH, record_statistics

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig


class TokenStatistics(LogitsProcessor):  # type: ignore[misc] # mypy does not follow vLLM
    """Measures the requests that name it (`record_statistics`); changes no logits.

    vLLM calls it before temperature and truncation, and after what changes the model's law itself
    (allowed tokens, logit bias, penalties). Name it before `SegmentEnd`.
    """

    @classmethod
    def validate_params(cls, sampling_params: "SamplingParams") -> None:
        """Raises what `read_statistics_request` raises; vLLM hands the message to the caller."""
        read_statistics_request(sampling_params)

    def __init__(self, vllm_config: "VllmConfig", req_states: LogitsProcRequestState) -> None:
        check_engine(vllm_config)
        self._memory: V2Memory[StatisticsRequest] = V2Memory(
            req_states, (INITIAL_WIDTH, 2), self._report
        )

    def add_request(self, req_idx: int, sampling_params: "SamplingParams") -> bool:
        """Notes the new request of a slot; returns whether vLLM shall call the hook for it."""
        request = read_statistics_request(sampling_params)
        self._memory.enter(req_idx, request, "" if request is None else request.ticket)
        return request is not None

    def apply(self, logits: torch.Tensor, ctx: LogitsContext) -> torch.Tensor:
        """Measures the rows that ask."""
        rows = self._memory.served_rows(ctx.idx_mapping_np)
        if rows is not None:
            slots = ctx.idx_mapping[rows].long()
            drawn = self._memory.num_drawn(rows, slots, ctx)
            # room for the law of each request's next token
            self._memory.widen(1 + self._memory.max_num_drawn(ctx))
            record_statistics(logits, rows, slots, drawn, self._memory.values)
        return logits

    def _report(self, owner: Owner[StatisticsRequest], num_drawn: int) -> Report:
        return statistics_report(self._memory.read(owner, num_drawn + 1))

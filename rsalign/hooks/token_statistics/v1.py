"""`TokenStatistics` for vLLM's first model runner."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from rsalign.engines.reports import Report, publish_report
from rsalign.engines.vllm.logits_processors_v1 import BatchUpdate, LogitsProcessor
from rsalign.hooks.shared.reports import statistics_report
from rsalign.hooks.shared.v1_memory import V1Memory, V1Owner
from rsalign.hooks.shared.v1_rows import ServedRows
from rsalign.hooks.token_statistics.request import StatisticsRequest, read_statistics_request
from rsalign.hooks.token_statistics.rule import INITIAL_WIDTH, record_statistics

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig


class TokenStatistics(LogitsProcessor):  # type: ignore[misc] # mypy does not follow vLLM
    """Measures the requests that name it (`record_statistics`); changes no logits.

    vLLM calls it before temperature and truncation, and after what changes the model's law itself
    (allowed tokens, logit bias). Name it before `SegmentEnd`.
    """

    @classmethod
    def validate_params(cls, sampling_params: "SamplingParams") -> None:
        """Raises what `read_statistics_request` raises; vLLM hands the message to the caller."""
        read_statistics_request(sampling_params)

    def __init__(
        self, vllm_config: "VllmConfig", device: torch.device, is_pin_memory: bool
    ) -> None:
        self._memory: V1Memory[StatisticsRequest] = V1Memory(
            vllm_config.scheduler_config.max_num_seqs, (INITIAL_WIDTH, 2), device
        )
        self._served = ServedRows(self._memory, self._enter, device)

    def is_argmax_invariant(self) -> bool:
        """Returns False, although it is: vLLM would call it after temperature, not for greedy."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follows a change of the batch."""
        self._served.follow(batch_update)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Measures the rows that ask."""
        served = self._served
        if served.owners:
            # room for the law of each request's next token
            self._memory.widen(1 + max(len(owner.drawn) for owner in served.owners))
            record_statistics(
                logits, served.indices, served.slots, served.num_drawn(), self._memory.values
            )
        return logits

    def _enter(
        self, params: "SamplingParams", drawn: Sequence[int]
    ) -> V1Owner[StatisticsRequest] | None:
        request = read_statistics_request(params)
        if request is None:
            return None
        owner = self._memory.enter(request, drawn, request.ticket)
        publish_report(owner.ticket, lambda num_drawn: self._report(owner, num_drawn))
        return owner

    def _report(self, owner: V1Owner[StatisticsRequest], num_drawn: int) -> Report:
        return statistics_report(self._memory.read(owner, num_drawn + 1))

"""`SegmentEnd` for vLLM's second model runner."""

from typing import TYPE_CHECKING

import torch

from rsalign.engines.reports import Report
from rsalign.engines.vllm.logits_processors_v2 import (
    LogitsContext,
    LogitsProcessor,
    LogitsProcRequestState,
)
from rsalign.hooks.segment_end.marks import MarkTable
from rsalign.hooks.segment_end.request import SegmentRequest, read_segment_params, read_ticket
from rsalign.hooks.segment_end.rule import STATE, LastTokens, Rules, end_segments
from rsalign.hooks.shared.memory import Owner
from rsalign.hooks.shared.reports import boundary_report
from rsalign.hooks.shared.v2_memory import V2Memory, check_engine

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig

_NOTHING = SegmentRequest(float("inf"), 1, "", 0.0, 1, sentinel=0)


class SegmentEnd(LogitsProcessor):  # type: ignore[misc] # mypy does not follow vLLM
    """Ends the segments of the requests that name it (`end_segments`); leaves all others alone.

    vLLM calls it before temperature and truncation, and after what changes the model's law itself
    (allowed tokens, logit bias, penalties).
    """

    @classmethod
    def validate_params(cls, sampling_params: "SamplingParams") -> None:
        """Raises what `read_segment_request` raises; vLLM hands the message to the caller."""
        read_segment_params(sampling_params)

    def __init__(self, vllm_config: "VllmConfig", req_states: LogitsProcRequestState) -> None:
        check_engine(vllm_config)
        self._device = req_states.device
        self._marks = MarkTable(vllm_config.model_config, self._device)
        self._memory: V2Memory[SegmentRequest] = V2Memory(req_states, STATE, self._report)
        self._rules: Rules | None = None
        self._all_alike = self._any_marks = False

    def add_request(self, req_idx: int, sampling_params: "SamplingParams") -> bool:
        """Notes the new request of a slot; returns whether vLLM shall call the hook for it."""
        request = read_segment_params(sampling_params)
        if self._memory.enter(req_idx, request, read_ticket(sampling_params.extra_args)):
            self._rules = None
        return request is not None

    def apply_staged_writes(self) -> None:
        """Sends the rules of all slots to the device when one of them is new."""
        self._memory.restore()
        if self._rules is not None:
            return
        requests = [owner.request for owner in self._memory.owners if owner is not None]
        if not requests:
            return
        self._any_marks = any(request.marks for request in requests)
        self._all_alike = all(request == requests[0] for request in requests)
        if self._all_alike:
            requests = requests[:1]
        else:
            requests = [owner.request if owner else _NOTHING for owner in self._memory.owners]
        marks = self._marks.rows([request.marks for request in requests])
        self._rules = Rules.send(requests, marks, self._device)

    def apply(self, logits: torch.Tensor, ctx: LogitsContext) -> torch.Tensor:
        """Applies the rule to the rows that ask; in place."""
        rows = self._memory.served_rows(ctx.idx_mapping_np)
        if rows is None or self._rules is None:
            return logits
        slots = ctx.idx_mapping[rows].long()
        last = None
        if self._any_marks:
            last = LastTokens(ctx.input_ids[rows].long(), self._marks.values)
        end_segments(
            logits,
            rows,
            slots,
            self._memory.num_drawn(rows, slots, ctx),
            rules=self._rules if self._all_alike else self._rules.select(slots),
            last=last,
            memory=self._memory.values,
        )
        return logits

    def _report(self, owner: Owner[SegmentRequest], num_drawn: int) -> Report:
        return boundary_report(self._memory.read(owner, 2), num_drawn)

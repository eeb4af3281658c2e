"""The segment end for vLLM's second model runner."""

from typing import TYPE_CHECKING

import torch
from vllm.v1.worker.gpu.sample.logits_processor import (
    LogitsContext,
    LogitsProcessor,
    LogitsProcRequestState,
)

from rsalign.engines.reports import Reading
from rsalign.hooks.segment_end.marks import Marks
from rsalign.hooks.segment_end.request import SegmentRequest, read_segment_request, read_ticket
from rsalign.hooks.segment_end.rule import Rules, Seen, end_segments
from rsalign.hooks.shared.readings import boundary_reading
from rsalign.hooks.shared.v2_slots import Owner, Slots
from rsalign.hooks.shared.v2_speculation import refuse_speculation

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig

_NOTHING = SegmentRequest(float("inf"), 1, "", 0.0, 1, 0)


class SegmentEnd(LogitsProcessor):  # type: ignore[misc] # mypy does not follow vLLM
    """Ends the requests that ask, by `end_segments`; does nothing for all others.

    vLLM calls it before temperature and truncation, and after what changes the model's law itself
    (allowed tokens, logit bias, penalties). A preempted request that has no ticket is a new one
    when it comes back, so that the entropy of the token drawn last is then unknown: if that one
    token is a mark, it does not end the segment.
    """

    @classmethod
    def validate_params(cls, sampling_params: "SamplingParams") -> None:
        """Refuses what `read_segment_request` refuses; vLLM hands the message to the caller."""
        _read(sampling_params)

    def __init__(self, vllm_config: "VllmConfig", req_states: LogitsProcRequestState) -> None:
        refuse_speculation(vllm_config)
        self._device = req_states.device
        self._marks = Marks(vllm_config.model_config, self._device)
        self._slots: Slots[SegmentRequest] = Slots(req_states, (2,), self._report)
        self._rules: Rules | None = None
        self._all_alike = self._any_marks = False

    def add_request(self, req_idx: int, sampling_params: "SamplingParams") -> bool:
        """Forgets the slot's last owner."""
        request = _read(sampling_params)
        if self._slots.enter(req_idx, request, read_ticket(sampling_params.extra_args)):
            self._rules = None
        return request is not None

    def apply_staged_writes(self) -> None:
        """Sends the rules of all slots when one of them is new."""
        if self._rules is not None:
            return
        requests = [owner.request for owner in self._slots.owners if owner is not None]
        if not requests:
            return
        self._any_marks = any(request.marks for request in requests)
        self._all_alike = all(request == requests[0] for request in requests)
        if self._all_alike:
            requests = requests[:1]
        else:
            requests = [owner.request if owner else _NOTHING for owner in self._slots.owners]
        kinds = self._marks.rows([request.marks for request in requests])
        self._rules = Rules.of(requests, kinds, self._device)

    def apply(self, logits: torch.Tensor, ctx: LogitsContext) -> torch.Tensor:
        """One step for the rows that ask; in place."""
        rows = self._slots.rows(ctx.idx_mapping_np)
        if rows is None or self._rules is None:
            return logits
        slots = ctx.idx_mapping[rows].long()
        seen = None
        if self._any_marks:
            seen = Seen(ctx.input_ids[rows].long(), self._marks.table)
        end_segments(
            logits,
            rows,
            slots,
            self._slots.num_drawn(rows, slots, ctx),
            rules=self._rules if self._all_alike else self._rules.select(slots),
            seen=seen,
            memory=self._slots.memory,
        )
        return logits

    def _report(self, owner: Owner[SegmentRequest], num_drawn: int) -> Reading:
        return boundary_reading(self._slots.read(owner, 2), num_drawn)


def _read(params: "SamplingParams") -> SegmentRequest | None:
    return read_segment_request(params.extra_args, params.stop_token_ids or (), params.min_tokens)

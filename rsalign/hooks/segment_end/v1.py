"""`SegmentEnd` for vLLM's first model runner."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from rsalign.engines.reports import Report, publish_report
from rsalign.engines.vllm.logits_processors_v1 import BatchUpdate, LogitsProcessor
from rsalign.hooks.segment_end.marks import MarkTable
from rsalign.hooks.segment_end.request import SegmentRequest, read_segment_params, read_ticket
from rsalign.hooks.segment_end.rule import NO_TOKEN, STATE, LastTokens, Rules, end_segments
from rsalign.hooks.shared.reports import boundary_report
from rsalign.hooks.shared.v1_memory import V1Memory, V1Owner
from rsalign.hooks.shared.v1_rows import ServedRows

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig


class SegmentEnd(LogitsProcessor):  # type: ignore[misc] # mypy does not follow vLLM
    """Ends the segments of the requests that name it (`end_segments`); leaves all others alone.

    vLLM calls it before temperature and truncation, and after what changes the model's law itself
    (allowed tokens, logit bias).
    """

    @classmethod
    def validate_params(cls, sampling_params: "SamplingParams") -> None:
        """Raises what `read_segment_request` raises; vLLM hands the message to the caller."""
        read_segment_params(sampling_params)

    def __init__(
        self, vllm_config: "VllmConfig", device: torch.device, is_pin_memory: bool
    ) -> None:
        self._device = device
        self._marks = MarkTable(vllm_config.model_config, device)
        self._memory: V1Memory[SegmentRequest] = V1Memory(
            vllm_config.scheduler_config.max_num_seqs, STATE, device
        )
        self._served = ServedRows(self._memory, self._enter, device)
        self._latest: SegmentRequest | None = None
        self._rules: Rules | None = None
        self._any_marks = False

    def is_argmax_invariant(self) -> bool:
        """Returns False: the segments of greedy requests end, too."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follows a change of the batch."""
        if self._served.follow(batch_update):
            self._rules = None
            self._any_marks = any(owner.request.marks for owner in self._served.owners)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Applies the rule to the rows that ask; in place."""
        served = self._served
        if not served.owners:
            return logits
        if self._rules is None:
            self._rules = self._send_rules()
        last = None
        if self._any_marks:
            last = LastTokens(served.last_tokens(NO_TOKEN), self._marks.values)
        end_segments(
            logits,
            served.indices,
            served.slots,
            served.num_drawn(),
            rules=self._rules,
            last=last,
            memory=self._memory.values,
        )
        return logits

    def _enter(
        self, params: "SamplingParams", drawn: Sequence[int]
    ) -> V1Owner[SegmentRequest] | None:
        request = read_segment_params(params)
        if request is None:
            return None
        if request == self._latest:
            request = self._latest  # the same object, which `Rules.send` recognises at once
        self._latest = request
        owner = self._memory.enter(request, drawn, read_ticket(params.extra_args))
        if owner.ticket:
            publish_report(owner.ticket, lambda num_drawn: self._report(owner, num_drawn))
        return owner

    def _report(self, owner: V1Owner[SegmentRequest], num_drawn: int) -> Report:
        return boundary_report(self._memory.read(owner, 2), num_drawn)

    def _send_rules(self) -> Rules:
        requests = [owner.request for owner in self._served.owners]
        marks = self._marks.rows([request.marks for request in requests])
        return Rules.send(requests, marks, self._device)

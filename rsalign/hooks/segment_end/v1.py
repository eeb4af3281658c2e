"""The segment end for vLLM's first model runner."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor

from rsalign.engines.reports import Reading, publish
from rsalign.hooks.segment_end.marks import Marks
from rsalign.hooks.segment_end.request import SegmentRequest, read_segment_request, read_ticket
from rsalign.hooks.segment_end.rule import NO_TOKEN, Rules, Seen, end_segments
from rsalign.hooks.shared.readings import boundary_reading
from rsalign.hooks.shared.v1_batch import Batch
from rsalign.hooks.shared.v1_places import Device, Places, Row

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig


class SegmentEnd(LogitsProcessor):  # type: ignore[misc] # mypy does not follow vLLM
    """Ends the requests that ask, by `end_segments`; does nothing for all others.

    vLLM calls it before temperature and truncation, and after what changes the model's law itself
    (allowed tokens, logit bias).
    """

    @classmethod
    def validate_params(cls, sampling_params: "SamplingParams") -> None:
        """Refuses what `read_segment_request` refuses; vLLM hands the message to the caller."""
        _read(sampling_params)

    def __init__(self, vllm_config: "VllmConfig", device: Device, is_pin_memory: bool) -> None:
        self._device = device
        self._marks = Marks(vllm_config.model_config, device)
        self._places: Places[SegmentRequest] = Places(
            vllm_config.scheduler_config.max_num_seqs, (2,), device
        )
        self._batch = Batch(self._places, self._enter, device)
        self._latest: SegmentRequest | None = None
        self._rules: Rules | None = None
        self._any_marks = False

    def is_argmax_invariant(self) -> bool:
        """Not so: greedy requests end too."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follows the batch."""
        if self._batch.follow(batch_update):
            self._rules = None
            self._any_marks = any(row.request.marks for row in self._batch.rows)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """One step for the rows that ask; in place."""
        batch = self._batch
        if not batch.rows:
            return logits
        if self._rules is None:
            self._rules = self._send()
        seen = None
        if self._any_marks:
            seen = Seen(batch.last_tokens(NO_TOKEN), self._marks.table)
        end_segments(
            logits,
            batch.indices,
            batch.slots,
            batch.num_drawn(),
            rules=self._rules,
            seen=seen,
            memory=self._places.memory,
        )
        return logits

    def _enter(self, params: "SamplingParams", drawn: Sequence[int]) -> Row[SegmentRequest] | None:
        request = _read(params)
        if request is None:
            return None
        if request == self._latest:
            request = self._latest  # the same object, which `Rules.of` recognises at once
        self._latest = request
        row = self._places.take(request, drawn, read_ticket(params.extra_args))
        if row.ticket:
            publish(row.ticket, lambda num_drawn: self._report(row, num_drawn))
        return row

    def _report(self, row: Row[SegmentRequest], num_drawn: int) -> Reading:
        return boundary_reading(self._places.read(row, 2), num_drawn)

    def _send(self) -> Rules:
        requests = [row.request for row in self._batch.rows]
        kinds = self._marks.rows([request.marks for request in requests])
        return Rules.of(requests, kinds, self._device)


def _read(params: "SamplingParams") -> SegmentRequest | None:
    return read_segment_request(params.extra_args, params.stop_token_ids or (), params.min_tokens)

"""The segment end for vLLM's second model runner, which GPUs use where Triton works."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from vllm.utils.torch_utils import async_tensor_h2d
from vllm.v1.worker.gpu.sample.logits_processor import (
    LogitsContext,
    LogitsProcessor,
    LogitsProcRequestState,
)

from rsalign.hooks.marks import Marks
from rsalign.hooks.request import SegmentRequest, read_request
from rsalign.hooks.segment_end import Rules, end_segments

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig

_NOTHING = SegmentRequest(float("inf"), 1, "", 0.0, 1, 0)


class SegmentEnd(LogitsProcessor):  # type: ignore[misc] # mypy does not follow vLLM
    """Ends the requests that ask, by `end_segments`; does nothing for all others.

    vLLM calls it before temperature and truncation, and after what changes the model's law itself
    (allowed tokens, logit bias, penalties). It names a preempted request anew when it brings it
    back, so that the entropy of the token drawn last is then unknown: if that one token is a mark,
    it does not end the segment.
    """

    @classmethod
    def validate_params(cls, sampling_params: "SamplingParams") -> None:
        """Refuses what `read_request` refuses; vLLM hands the message to the caller."""
        read_request(
            sampling_params.extra_args,
            sampling_params.stop_token_ids or (),
            sampling_params.min_tokens,
        )

    def __init__(self, vllm_config: "VllmConfig", req_states: LogitsProcRequestState) -> None:
        self._states = req_states
        self._device = req_states.device
        self._marks = Marks(vllm_config.model_config, self._device)
        self._requests = [_NOTHING] * req_states.max_num_reqs
        self._asks = np.zeros(req_states.max_num_reqs, dtype=bool)
        self._rules: Rules | None = None
        self._memory = torch.full((req_states.max_num_reqs, 2), -float("inf"), device=self._device)
        self._layout: tuple[Any, Any] = (np.empty(0), None)

    def add_request(self, req_idx: int, sampling_params: "SamplingParams") -> bool:
        """Forgets the slot's last owner."""
        request = read_request(
            sampling_params.extra_args,
            sampling_params.stop_token_ids or (),
            sampling_params.min_tokens,
        )
        if request is None and not self._asks[req_idx]:
            return False
        self._requests[req_idx] = request or _NOTHING
        self._asks[req_idx] = request is not None
        self._rules = None
        self._layout = (np.empty(0), None)
        self._memory[req_idx] = -float("inf")
        return request is not None

    def apply_staged_writes(self) -> None:
        """Sends the rules of all slots when one of them is new."""
        if self._rules is None and self._asks.any():
            kinds = [self._marks.row(request.marks) for request in self._requests]
            self._rules = Rules.of(self._requests, kinds, self._device)

    def apply(self, logits: torch.Tensor, ctx: LogitsContext) -> torch.Tensor:
        """One step for the rows that ask; in place."""
        rows = self._asking(ctx.idx_mapping_np)
        if rows is None or self._rules is None:
            return logits
        slots = ctx.idx_mapping[rows].long()
        drawn = ctx.pos[rows].long() + 1 - self._states.prompt_len.gpu[slots]
        end_segments(
            logits,
            rows,
            slots,
            drawn,
            ctx.input_ids[rows].long(),
            rules=self._rules.select(slots),
            marks=self._marks.table,
            memory=self._memory,
        )
        return logits

    def _asking(self, slots: Any) -> torch.Tensor | None:
        """The rows that ask, sent to the device when the batch has changed."""
        known, rows = self._layout
        if not np.array_equal(known, slots):
            asking = np.flatnonzero(self._asks[slots])
            rows = async_tensor_h2d(asking, self._device) if asking.size else None
            self._layout = (np.array(slots), rows)
        return rows

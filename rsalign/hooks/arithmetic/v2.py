"""Arithmetic sampling for vLLM's second model runner."""

from typing import TYPE_CHECKING

import torch
from vllm.v1.worker.gpu.sample.logits_processor import (
    LogitsContext,
    LogitsProcessor,
    LogitsProcRequestState,
)

from rsalign.engines.reports import Reading
from rsalign.hooks.arithmetic.request import ArithmeticRequest, read_arithmetic_request
from rsalign.hooks.arithmetic.rule import STATE, Codes
from rsalign.hooks.shared.v2_slots import Owner, Slots
from rsalign.hooks.shared.v2_speculation import refuse_speculation

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig

_NOTHING = ArithmeticRequest(0.0, 1.0, 0, 1.0, 0.0)


class Arithmetic(LogitsProcessor):  # type: ignore[misc] # mypy does not follow vLLM
    """As `rsalign.hooks.v1.Arithmetic`; named last, because other hooks may change the law.

    A preempted request is a new one to this runner when it comes back, and its code is then spent:
    vLLM's own sampler draws the rest. It keeps its law, and is spread up to there.
    """

    @classmethod
    def validate_params(cls, sampling_params: "SamplingParams") -> None:
        """Refuses what `read_arithmetic_request` refuses; vLLM hands the message to the caller."""
        read_arithmetic_request(sampling_params)

    def __init__(self, vllm_config: "VllmConfig", req_states: LogitsProcRequestState) -> None:
        refuse_speculation(vllm_config)
        self._device, self._vocab_size = req_states.device, req_states.vocab_size
        self._slots: Slots[ArithmeticRequest] = Slots(req_states, STATE, _nothing, torch.float64)
        self._codes: Codes | None = None

    def add_request(self, req_idx: int, sampling_params: "SamplingParams") -> bool:
        """Forgets the slot's last owner; says whether it is to be called for this one."""
        request = read_arithmetic_request(sampling_params)
        if self._slots.enter(req_idx, request):
            self._codes = None
        return request is not None

    def apply_staged_writes(self) -> None:
        """Sends the codes of all slots when one of them is new."""
        owners = self._slots.owners
        if self._codes is None and any(owners):
            requests = [owner.request if owner else _NOTHING for owner in owners]
            self._codes = Codes.of(requests, self._vocab_size, self._device, tempered=False)

    def apply(self, logits: torch.Tensor, ctx: LogitsContext) -> torch.Tensor:
        """One step for the rows that ask; in place."""
        rows = self._slots.rows(ctx.idx_mapping_np)
        if rows is None or self._codes is None:
            return logits
        slots = ctx.idx_mapping[rows].long()
        drawn = self._slots.num_drawn(rows, slots, ctx)
        self._codes.select(slots).choose(logits, rows, slots, drawn, self._slots.memory)
        return logits


def _nothing(_: Owner[ArithmeticRequest], __: int) -> Reading:
    return {}

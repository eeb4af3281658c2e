"""`Arithmetic` for vLLM's second model runner."""

from typing import TYPE_CHECKING

import torch

from rsalign.engines.reports import Report
from rsalign.engines.vllm.logits_processors_v2 import (
    LogitsContext,
    LogitsProcessor,
    LogitsProcRequestState,
)
from rsalign.hooks.arithmetic.request import ArithmeticRequest, read_arithmetic_request
from rsalign.hooks.arithmetic.rule import STATE, Codes
from rsalign.hooks.shared.memory import Owner
from rsalign.hooks.shared.v2_memory import V2Memory, check_engine

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig

_NOTHING = ArithmeticRequest(0.0, 1.0, 0, 1.0, 0.0)


class Arithmetic(LogitsProcessor):  # type: ignore[misc] # mypy does not follow vLLM
    """Spreads the samples of the requests that name it; see `rsalign.hooks.v1.Arithmetic`.

    Name it last, because other hooks may change the law.
    """

    @classmethod
    def validate_params(cls, sampling_params: "SamplingParams") -> None:
        """Raises what `read_arithmetic_request` raises; vLLM hands the message to the caller."""
        read_arithmetic_request(sampling_params)

    def __init__(self, vllm_config: "VllmConfig", req_states: LogitsProcRequestState) -> None:
        check_engine(vllm_config)
        self._device, self._vocab_size = req_states.device, req_states.vocab_size
        self._memory: V2Memory[ArithmeticRequest] = V2Memory(
            req_states, STATE, _no_report, torch.float64
        )
        self._codes: Codes | None = None

    def add_request(self, req_idx: int, sampling_params: "SamplingParams") -> bool:
        """Notes the new request of a slot; returns whether vLLM shall call the hook for it."""
        request = read_arithmetic_request(sampling_params)
        if self._memory.enter(req_idx, request):
            self._codes = None
        return request is not None

    def apply_staged_writes(self) -> None:
        """Sends the codes of all slots to the device when one of them is new."""
        self._memory.restore()
        owners = self._memory.owners
        if self._codes is None and any(owners):
            requests = [owner.request if owner else _NOTHING for owner in owners]
            self._codes = Codes.send(requests, self._vocab_size, self._device, tempered=False)

    def apply(self, logits: torch.Tensor, ctx: LogitsContext) -> torch.Tensor:
        """Chooses the tokens of the rows that ask; in place."""
        rows = self._memory.served_rows(ctx.idx_mapping_np)
        if rows is None or self._codes is None:
            return logits
        slots = ctx.idx_mapping[rows].long()
        drawn = self._memory.num_drawn(rows, slots, ctx)
        self._codes.select(slots).choose(logits, rows, slots, drawn, self._memory.values)
        return logits


def _no_report(_: Owner[ArithmeticRequest], __: int) -> Report:
    return {}

"""`Arithmetic` for vLLM's first model runner."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from rsalign.engines.vllm.logits_processors_v1 import BatchUpdate, LogitsProcessor
from rsalign.hooks.arithmetic.request import ArithmeticRequest, read_arithmetic_request
from rsalign.hooks.arithmetic.rule import STATE, Codes
from rsalign.hooks.shared.v1_memory import V1Memory, V1Owner
from rsalign.hooks.shared.v1_rows import ServedRows

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig


class Arithmetic(LogitsProcessor):  # type: ignore[misc] # mypy does not follow vLLM
    """Spreads the samples of the requests that name it (`Codes.choose`); leaves all others alone.

    Each sample keeps its law: temperature, penalties and truncation included.
    """

    @classmethod
    def validate_params(cls, sampling_params: "SamplingParams") -> None:
        """Raises what `read_arithmetic_request` raises; vLLM hands the message to the caller."""
        read_arithmetic_request(sampling_params)

    def __init__(
        self, vllm_config: "VllmConfig", device: torch.device, is_pin_memory: bool
    ) -> None:
        self._device = device
        self._memory: V1Memory[ArithmeticRequest] = V1Memory(
            vllm_config.scheduler_config.max_num_seqs, STATE, device, torch.float64
        )
        self._served = ServedRows(self._memory, self._enter, device)
        self._codes: Codes | None = None

    def is_argmax_invariant(self) -> bool:
        """Returns True: no greedy request may name it. vLLM then calls it after `min_p`."""
        return True

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follows a change of the batch."""
        if self._served.follow(batch_update):
            self._codes = None

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Chooses the tokens of the rows that ask; in place."""
        served = self._served
        if not served.owners:
            return logits
        if self._codes is None:
            requests = [owner.request for owner in served.owners]
            self._codes = Codes.send(requests, logits.shape[-1], self._device, tempered=True)
        memory = self._memory.values
        self._codes.choose(logits, served.indices, served.slots, served.num_drawn(), memory)
        return logits

    def _enter(
        self, params: "SamplingParams", drawn: Sequence[int]
    ) -> V1Owner[ArithmeticRequest] | None:
        request = read_arithmetic_request(params)
        return None if request is None else self._memory.enter(request, drawn, "")

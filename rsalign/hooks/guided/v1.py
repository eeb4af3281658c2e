"""`Guided` for vLLM's first model runner."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rsalign.engines.vllm.logits_processors_v1 import BatchUpdate, LogitsProcessor
from rsalign.hooks.guided.guide_model import Context
from rsalign.hooks.guided.request import check_guided, read_guidance
from rsalign.hooks.guided.rule import GuidedRequest, Guides
from rsalign.hooks.shared.v1_rows import BatchRows

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig


class Guided(LogitsProcessor):  # type: ignore[misc] # mypy does not follow vLLM
    """Draws the requests that name it from the guided law (`rsalign.hooks.guided.rule`).

    vLLM calls it before temperature and truncation, which apply to the guided law, and after what
    changes the policy's law (allowed tokens, logit bias). Name it first, so that other hooks see
    the guided law.

    The guides are loaded in the engine's own process and on its device: in float64 on CPUs,
    elsewhere in the policy's precision. vLLM does not count their memory: leave room for it
    (``gpu_memory_utilization``).

    vLLM checks a request's parameters without knowing its engine, so that only the sender can check
    how many guides there are, as `VllmPolicy` does. A request that reaches the engine and asks for
    a guide that does not exist ends at once, with no text.
    """

    @classmethod
    def validate_params(cls, sampling_params: "SamplingParams") -> None:
        """Raises what `check_guided` raises; vLLM hands the message to the caller."""
        check_guided(sampling_params)

    def __init__(
        self, vllm_config: "VllmConfig", device: torch.device, is_pin_memory: bool
    ) -> None:
        self.guides = Guides.load(vllm_config, device)
        self._rows: BatchRows[GuidedRequest] = BatchRows(self._enter, self.guides.leave)

    def is_argmax_invariant(self) -> bool:
        """Returns False: greedy requests are guided, too."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follows a change of the batch."""
        self._rows.follow(batch_update)

    def apply(self, logits: Tensor) -> Tensor:
        """Guides the rows that ask; in place."""
        if self._rows.stored:
            self.guides.guide(logits, self._rows.stored)
        return logits

    def _enter(
        self, params: "SamplingParams", prompt: list[int] | None, drawn: list[int]
    ) -> GuidedRequest | None:
        context = None if prompt is None else Context(prompt, drawn)
        return self.guides.enter(read_guidance(params.extra_args), context)

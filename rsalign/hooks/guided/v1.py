"""Guided sampling for vLLM's first model runner."""

from typing import TYPE_CHECKING

from torch import Tensor
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor

from rsalign.hooks.guided.guide_model import Context
from rsalign.hooks.guided.guides import GuidedRequest, Guides
from rsalign.hooks.guided.request import read_guidance
from rsalign.hooks.shared.request import check_guided
from rsalign.hooks.shared.v1_places import Device
from rsalign.hooks.shared.v1_rows import Rows

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig


class Guided(LogitsProcessor):  # type: ignore[misc] # mypy does not follow vLLM
    """Draws the requests that ask from the guided law (`rsalign.hooks.guided.rule`); no others.

    vLLM calls it before temperature and truncation, which apply to the guided law, and after what
    changes the policy's (allowed tokens, logit bias). Named first, what other hooks measure is the
    guided law.

    The guides are loaded beside the policy, in the engine's own process and on its device: in
    float64 on CPUs, else in the policy's precision. Their memory is not vLLM's: leave room for it
    (``gpu_memory_utilization``).

    vLLM checks a request's parameters without knowing its engine, so that how many guides there are
    can only be checked by who submits it, as `VllmPolicy` does. One that reaches the engine and
    asks for a guide that there is not ends at once, with no text.
    """

    @classmethod
    def validate_params(cls, sampling_params: "SamplingParams") -> None:
        """Refuses what `check_guided` refuses; vLLM hands the message to the caller."""
        check_guided(sampling_params)

    def __init__(self, vllm_config: "VllmConfig", device: Device, is_pin_memory: bool) -> None:
        self.guides = Guides.load(vllm_config, device)
        self._rows: Rows[GuidedRequest] = Rows(self._enter, self.guides.leave)

    def is_argmax_invariant(self) -> bool:
        """Not so: greedy requests are guided too."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follows the batch."""
        self._rows.follow(batch_update)

    def apply(self, logits: Tensor) -> Tensor:
        """One step for the rows that ask; in place."""
        if self._rows.at:
            self.guides.guide(logits, self._rows.at)
        return logits

    def _enter(
        self, params: "SamplingParams", prompt: list[int] | None, drawn: list[int]
    ) -> GuidedRequest | None:
        context = None if prompt is None else Context(prompt, drawn)
        return self.guides.request(read_guidance(params.extra_args), context)

"""`Guided` for vLLM's second model runner."""

from typing import TYPE_CHECKING

import torch

from rsalign.engines.vllm.logits_processors_v2 import (
    LogitsContext,
    LogitsProcessor,
    LogitsProcRequestState,
)
from rsalign.hooks.guided.guide_model import Context
from rsalign.hooks.guided.request import check_guided, read_guidance
from rsalign.hooks.guided.rule import GuidedRequest, Guides
from rsalign.hooks.shared.v2_memory import check_engine

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig


class Guided(LogitsProcessor):  # type: ignore[misc] # mypy does not follow vLLM
    """Draws the requests that name it from the guided law; see `rsalign.hooks.v1.Guided`.

    This runner keeps tokens on the device, and the host hands them to the guides: a step with
    guided requests waits for the step before it.
    """

    @classmethod
    def validate_params(cls, sampling_params: "SamplingParams") -> None:
        """Raises what `check_guided` raises; vLLM hands the message to the caller."""
        check_guided(sampling_params)

    def __init__(self, vllm_config: "VllmConfig", req_states: LogitsProcRequestState) -> None:
        check_engine(vllm_config)
        self.guides = Guides.load(vllm_config, req_states.device)
        self._states = req_states
        self._slots: dict[int, GuidedRequest] = {}

    def add_request(self, req_idx: int, sampling_params: "SamplingParams") -> bool:
        """Notes the new request of a slot; returns whether vLLM shall call the hook for it."""
        if req_idx in self._slots:
            self.guides.leave(self._slots.pop(req_idx))
        alphas = read_guidance(sampling_params.extra_args)
        request = self.guides.enter(alphas, Context([], []))
        if request is not None:
            self._slots[req_idx] = request
        return request is not None

    def apply(self, logits: torch.Tensor, ctx: LogitsContext) -> torch.Tensor:
        """Guides the rows that ask; in place."""
        slots = ctx.idx_mapping_np.tolist()
        requests = {row: self._slots[slot] for row, slot in enumerate(slots) if slot in self._slots}
        for slot in self._slots.keys() - set(slots):  # ended, or not in this step
            self.guides.leave(self._slots[slot])
        if requests:
            self._catch_up(requests, slots, ctx)
            self.guides.guide(logits, requests)
        return logits

    def _catch_up(
        self, requests: dict[int, GuidedRequest], slots: list[int], ctx: LogitsContext
    ) -> None:
        """Fetches the tokens since the last step: a prompt, or one token."""
        newest = ctx.input_ids[list(requests)].tolist()
        for (row, request), token in zip(requests.items(), newest, strict=True):
            known, length = len(request.context), int(ctx.seq_lens_upper_bound_np[row])
            if length == known + 1 and known:
                request.context.drawn.append(token)
            elif length > known:
                tokens = self._states.all_token_ids.gpu[slots[row], known:length]
                request.context.drawn.extend(tokens.tolist())

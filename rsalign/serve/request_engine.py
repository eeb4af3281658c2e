"""A view of the shared engine for one answer of an HTTP request."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rsalign.core.types import Tokens
from rsalign.engines.options import NO_OPTIONS, RequestOptions
from rsalign.engines.reports import Reading
from rsalign.engines.vllm.asynchronous import AsyncEngine

if TYPE_CHECKING:
    from vllm import PoolingParams, PoolingRequestOutput, RequestOutput, SamplingParams
    from vllm.config import VllmConfig


@dataclass(frozen=True, slots=True)
class RequestEngine:
    """An engine whose draws are watched; closing this view leaves the engine running.

    Attributes:
        engine: the shared engine.
        on_tokens: called with all tokens of an engine request so far, as they are drawn; or None.
        tells_log_probs: whether the engine computes log-probabilities, which costs time per token.
    """

    engine: AsyncEngine
    on_tokens: Callable[[Tokens], None] | None = None
    tells_log_probs: bool = True

    @property
    def vllm_config(self) -> "VllmConfig":
        """The engine's whole configuration."""
        return self.engine.vllm_config

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self.engine.tokenizer

    @property
    def renderer(self) -> Any:
        """What vLLM renders conversations with."""
        return self.engine.renderer

    @property
    def num_open(self) -> int:
        """How many requests of ours the engine has, those of other views included."""
        return self.engine.num_open

    async def generate(
        self, tokens: Tokens, params: "SamplingParams", options: RequestOptions = NO_OPTIONS
    ) -> "RequestOutput":
        """The final output for one prompt (see `Engine`)."""
        if not self.tells_log_probs:
            params.logprobs = None
        if self.on_tokens is None:
            return await self.engine.generate(tokens, params, options)
        from vllm.sampling_params import RequestOutputKind

        params.output_kind = RequestOutputKind.CUMULATIVE
        return await self.engine.generate(tokens, params, options, on_output=self._watch)

    async def encode(self, tokens: Tokens, params: "PoolingParams") -> "PoolingRequestOutput[Any]":
        """The pooled output for one prompt (see `Engine`)."""
        return await self.engine.encode(tokens, params)

    @property
    def tells(self) -> bool:
        """Whether what hooks learn of a request can be read."""
        return self.engine.tells

    async def report(self, ticket: str, num_drawn: int) -> Reading | None:
        """What hooks have learnt of a request (see `Engine`)."""
        return await self.engine.report(ticket, num_drawn)

    def close(self) -> None:
        """Nothing: the engine is shared."""

    def _watch(self, output: "RequestOutput") -> None:
        assert self.on_tokens is not None
        self.on_tokens(tuple(output.outputs[0].token_ids))

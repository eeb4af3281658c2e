"""A view of the shared engine for one answer of an HTTP request."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rsalign.core.types import Tokens
from rsalign.engines.protocol import DrawRequest, DrawResult, ScoreRequest, ScoreResult
from rsalign.engines.reports import Report
from rsalign.engines.vllm.asynchronous import AsyncEngine
from rsalign.serve.draw_window import DrawShare

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.lora.request import LoRARequest


@dataclass(frozen=True, slots=True)
class RequestEngine:
    """An engine whose draws are watched; closing this view leaves the engine running.

    Attributes:
        engine: the shared engine.
        share: of the places for draws that the engine has (`rsalign.serve.draw_window`); None for
            a request that draws once, which waits for no place.
        on_tokens: called with all tokens of an engine request so far, as they are drawn; or None.
        tells_log_probs: whether the engine computes log-probabilities, which costs time per token.
    """

    engine: AsyncEngine
    share: DrawShare | None
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

    def load_adapter(self, request: "LoRARequest") -> None:
        """Loads a LoRA adapter into the shared engine."""
        self.engine.load_adapter(request)

    @property
    def max_model_len(self) -> int:
        """The greatest length of prompt and completion together, in tokens."""
        return self.engine.max_model_len

    @property
    def capacity(self) -> int:
        """The greatest number of draws that the engine computes at once."""
        size = None if self.share is None else self.share.window.size
        return self.engine.capacity if size is None else min(size, self.engine.capacity)

    @property
    def num_open(self) -> int:
        """How many requests of ours the engine has, those of other views included."""
        return self.engine.num_open

    def check(self, request: DrawRequest) -> None:
        """Raises `ConfigError` if the engine would refuse the request."""
        self.engine.check(request)

    async def draw(self, request: DrawRequest) -> DrawResult:
        """Draws one completion, and reports its tokens to `on_tokens` as they are drawn."""
        if not self.tells_log_probs:
            request = replace(request, num_log_probs=None)
        async with self._place():
            return await self.engine.draw(request, on_tokens=self.on_tokens)

    async def score(self, request: ScoreRequest) -> ScoreResult:
        """Scores one sequence."""
        async with self._place():
            return await self.engine.score(request)

    def _place(self) -> contextlib.AbstractAsyncContextManager[None]:
        return contextlib.nullcontext() if self.share is None else self.share.place()

    @property
    def can_report(self) -> bool:
        """Whether `read_report` can return what hooks measured."""
        return self.engine.can_report

    async def read_report(self, ticket: str, num_drawn: int) -> Report | None:
        """Returns what hooks measured of a completed request."""
        return await self.engine.read_report(ticket, num_drawn)

    def close(self) -> None:
        """Does nothing: the engine is shared."""

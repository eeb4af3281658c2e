"""One engine protocol, whatever runs behind it."""

from typing import TYPE_CHECKING, Any, Protocol

from rsalign.core.types import Tokens
from rsalign.engines.options import NO_OPTIONS, RequestOptions
from rsalign.engines.reports import Reading

if TYPE_CHECKING:
    from vllm import PoolingParams, PoolingRequestOutput, RequestOutput, SamplingParams
    from vllm.config import VllmConfig


class Engine(Protocol):
    """vLLM, in process or beside it; safe to await from any event loop unless it says otherwise.

    Cancelling a call aborts the request in the engine, which reports the tokens that it had drawn
    (`rsalign.core.cancelled_draws`).
    """

    @property
    def vllm_config(self) -> "VllmConfig":
        """The engine's whole configuration."""
        ...

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the model (a Hugging Face tokenizer)."""
        ...

    @property
    def renderer(self) -> Any:
        """What vLLM renders conversations with, for this model (`vllm.renderers`)."""
        ...

    @property
    def num_open(self) -> int:
        """How many of our requests are open."""
        ...

    async def generate(
        self, tokens: Tokens, params: "SamplingParams", options: RequestOptions = NO_OPTIONS
    ) -> "RequestOutput":
        """The final output for one prompt.

        Args:
            tokens: the prompt.
            params: the law, the length and what is to be told of the drawn tokens.
            options: what goes with the request.

        Raises:
            ConfigError: if the engine refuses the request.
            EngineError: if the engine died or was closed.
        """
        ...

    async def encode(self, tokens: Tokens, params: "PoolingParams") -> "PoolingRequestOutput[Any]":
        """The pooled output for one prompt; errors as in `generate`."""
        ...

    @property
    def tells(self) -> bool:
        """Whether what hooks learn of a request can be read (`report`)."""
        ...

    async def report(self, ticket: str, num_drawn: int) -> Reading | None:
        """What hooks have learnt of a request that has ended; one call, one read of the device.

        Args:
            ticket: that the request has named.
            num_drawn: how many of its tokens are of interest.

        Returns:
            None if nothing is known under this ticket, or it was read before.

        Raises:
            EngineError: if the engine died or was closed.
        """
        ...

    def close(self) -> None:
        """Stops the engine if we started it; an adopted one runs on. Idempotent."""
        ...

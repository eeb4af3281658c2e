"""What vLLM's two kinds of engine have in common: facts about the model, and draws and scores."""

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from rsalign.core.checks import quote
from rsalign.core.errors import ConfigError
from rsalign.core.foreign import error_message, errors_as
from rsalign.core.types import Sampling, Tokens
from rsalign.engines.options import NO_OPTIONS, RequestOptions
from rsalign.engines.protocol import DrawRequest, DrawResult, ScoreRequest, ScoreResult
from rsalign.engines.vllm.requests import (
    draw_result,
    pooling_params,
    sampling_params,
    score_result,
)
from rsalign.engines.vllm.runner_limits import check_runner_limits

if TYPE_CHECKING:
    from vllm import PoolingParams, PoolingRequestOutput, RequestOutput, SamplingParams
    from vllm.config import VllmConfig


class EngineBase:
    """The methods of `VllmEngine` that do not depend on the process that the engine runs in.

    A subclass sets `vllm_engine`, vLLM's object, and implements `generate`, `encode` and
    `supported_tasks`.
    """

    vllm_engine: Any

    @property
    def vllm_config(self) -> "VllmConfig":
        """The engine's whole configuration."""
        config: VllmConfig = self.vllm_engine.vllm_config
        return config

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self.vllm_engine.get_tokenizer()

    @property
    def renderer(self) -> Any:
        """VLLM's renderer of conversations for this model."""
        return self.vllm_engine.renderer

    @property
    def max_model_len(self) -> int:
        """The greatest length of prompt and completion together, in tokens."""
        return int(self.vllm_config.model_config.max_model_len)

    @property
    def capacity(self) -> int:
        """The greatest number of requests that the engine computes at once."""
        return int(self.vllm_config.scheduler_config.max_num_seqs)

    def check(self, request: DrawRequest) -> None:
        """Raises `ConfigError` if vLLM would refuse the request or die of it; sends nothing."""
        config = self.vllm_config

        def refused(failure: BaseException) -> ConfigError:
            usual = Sampling()
            names = [each.name for each in fields(Sampling)]
            asked = {name: getattr(request.sampling, name) for name in names}
            unusual = {n: value for n, value in asked.items() if value != getattr(usual, n)}
            return ConfigError(f"vLLM refuses {quote(unusual or asked)}: {error_message(failure)}")

        with errors_as(refused):
            params = sampling_params(request)
            params.verify(
                config.model_config,
                config.speculative_config,
                config.structured_outputs_config,
                self.tokenizer,
            )
            check_runner_limits(params, config)

    async def draw(self, request: DrawRequest) -> DrawResult:
        """Draws one completion; see `Engine`."""
        output = await self.generate(request.prompt, sampling_params(request), request.options)
        return draw_result(output, request)

    async def score(self, request: ScoreRequest) -> ScoreResult:
        """Scores one sequence; see `Engine`."""
        classifies = "classify" in await self.supported_tasks()
        params = pooling_params(request, classifies=classifies)
        output = await self.encode(request.tokens, params)
        return score_result(output, request)

    async def generate(
        self, tokens: Tokens, params: "SamplingParams", options: RequestOptions = NO_OPTIONS
    ) -> "RequestOutput":
        """Sends one request in vLLM's own terms and returns vLLM's final output.

        Args:
            tokens: the prompt.
            params: vLLM's.
            options: what else goes with the request.

        Raises:
            ConfigError: if the engine refuses the request.
            EngineError: if the engine died or was closed.
        """
        raise NotImplementedError

    async def supported_tasks(self) -> tuple[str, ...]:
        """Returns what the model can be asked for, in vLLM's words, such as ``classify``."""
        raise NotImplementedError

    async def encode(self, tokens: Tokens, params: "PoolingParams") -> "PoolingRequestOutput[Any]":
        """Sends one request to a pooling engine in vLLM's own terms; errors as in `generate`."""
        raise NotImplementedError

"""What an engine is to the rest of rsalign: requests and results of its own, without vLLM's types.

`Engine` is what policies and rewards need of any engine. `VllmEngine` adds what only vLLM has, for
`VllmPolicy` and the hooks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from rsalign.core.protocols import Ranked
from rsalign.core.types import Sampling, Tokens
from rsalign.engines.options import NO_OPTIONS, RequestOptions
from rsalign.engines.reports import Report

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.lora.request import LoRARequest


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawRequest:
    """One completion that an engine shall draw.

    Attributes:
        prompt: token ids.
        sampling: the law that tokens are drawn from.
        max_tokens: greatest number of tokens to draw.
        seed: of the engine's random numbers for this request; None for a greedy law.
        stop: stop strings that the engine looks for: those of `sampling`, or none of them where
            the caller looks for them itself.
        hook_arguments: for logits processors in the engine, flat.
        stop_token_ids: token ids that end the completion, besides those of `sampling`.
        num_log_probs: number of most probable tokens whose log-probabilities are returned beside
            that of each drawn token; None returns none. The number in `options`, if any, wins.
        prompt_log_probs: whether the log-probabilities of the prompt's tokens are returned. They
            are those of the model itself, whatever `sampling` says.
        scored_from: with `prompt_log_probs`, the number of first tokens of the prompt whose
            log-probabilities are not needed. The engine may then take these tokens from its prefix
            cache. The result has None for them, or nothing at all if the cache had more of the
            prompt: the request must then be sent again with 0.
        options: what else goes with the request.

    Example:
        >>> request = DrawRequest(prompt=(1, 5), sampling=Sampling(temperature=0.7), max_tokens=16)
        >>> request.num_log_probs is None
        True
    """

    prompt: Tokens
    sampling: Sampling
    max_tokens: int
    seed: int | None = None
    stop: tuple[str, ...] = ()
    hook_arguments: Mapping[str, int | float | str] = field(default_factory=dict)
    stop_token_ids: Tokens = ()
    num_log_probs: int | None = None
    prompt_log_probs: bool = False
    scored_from: int = 0
    options: RequestOptions = NO_OPTIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawResult:
    """A completion that an engine has drawn.

    Attributes:
        tokens: the drawn ids, with the one that ended the completion.
        log_probs: of the drawn tokens, nats, ``(tokens,)``; None if they were not asked for.
        listed: for each token, all log-probabilities that the engine returned with it, by token id
            (each has `logprob` and `rank`); None unless the request's options ask for others.
        prompt_log_probs: of the prompt's tokens, nats; None for the first. None, too, if they were
            not asked for.
        text: of the completion; empty where nothing had to be decoded.
        finish_reason: ``"length"`` or ``"stop"``, or whatever else the engine says.
        stop_reason: the stop string or stop token id; None for the end of sequence.
        num_cached_tokens: tokens of the prompt that were not computed, because the prefix cache
            had them.

    Example:
        >>> DrawResult(tokens=(7, 2), finish_reason="stop").num_cached_tokens
        0
    """

    tokens: Tokens
    log_probs: tuple[float, ...] | None = None
    listed: tuple[Mapping[int, Any], ...] | None = None
    prompt_log_probs: tuple[Ranked | None, ...] | None = None
    text: str = ""
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    num_cached_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRequest:
    """One sequence that a reward model shall score.

    Attributes:
        tokens: prompt and response, in the reward model's own tokens.
        each_token: one score for each token instead of one for the sequence.
        read_cache: whether prefixes may come from the prefix cache. A cached token has no score of
            its own.
        second_begins: index of the first token of the second of two texts, for encoders that are
            told which text a token belongs to; None: one text.

    Example:
        >>> ScoreRequest(tokens=(1, 5, 7)).each_token
        False
    """

    tokens: Tokens
    each_token: bool = False
    read_cache: bool = True
    second_begins: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreResult:
    """The scores of one sequence, raw (no sigmoid).

    Attributes:
        scores: ``(1, labels)``, or ``(tokens computed, labels)`` for `ScoreRequest.each_token`: the
            last tokens, without those that the prefix cache had.
        num_cached_tokens: tokens that were not computed.

    Example:
        >>> ScoreResult(scores=((0.25,),)).scores[0][0]
        0.25
    """

    scores: tuple[tuple[float, ...], ...]
    num_cached_tokens: int = 0


class Engine(Protocol):
    """A running model; every method may be awaited from any event loop unless it says otherwise.

    Cancelling a call aborts its request in the engine, which reports the tokens that it had drawn
    (`rsalign.core.cancelled_draws`).

    Raises:
        ConfigError: by `draw` and `score`, if the engine refuses the request.
        EngineError: by all methods, if the engine died or was closed.

    Example:
        >>> import asyncio
        >>> class Echo:  # what a back end has to do for one completion
        ...     async def draw(self, request):
        ...         tokens = request.prompt[: request.max_tokens]
        ...         return DrawResult(tokens=tokens, finish_reason="length")
        >>> request = DrawRequest(prompt=(4, 2, 7), sampling=Sampling(), max_tokens=2)
        >>> asyncio.run(Echo().draw(request)).tokens
        (4, 2)
    """

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the model (a Hugging Face tokenizer)."""
        ...

    @property
    def max_model_len(self) -> int:
        """The greatest length of prompt and completion together, in tokens."""
        ...

    @property
    def capacity(self) -> int:
        """The greatest number of requests that the engine computes at once."""
        ...

    @property
    def num_open(self) -> int:
        """The number of our requests that are open."""
        ...

    def check(self, request: DrawRequest) -> None:
        """Raises `ConfigError` if the engine would refuse the request; sends nothing."""
        ...

    async def draw(self, request: DrawRequest) -> DrawResult:
        """Draws one completion and returns it when it is complete."""
        ...

    async def score(self, request: ScoreRequest) -> ScoreResult:
        """Scores one sequence; for engines of reward models."""
        ...

    @property
    def can_report(self) -> bool:
        """Whether `read_report` can return what hooks measured."""
        ...

    async def read_report(self, ticket: str, num_drawn: int) -> Report | None:
        """Returns what hooks measured of a completed request; one read of the device.

        Args:
            ticket: that the request named in its hook arguments (`rsalign.engines.reports`).
            num_drawn: the number of its tokens that are of interest.

        Returns:
            None if there is no report under this ticket, or it was read before.
        """
        ...

    def close(self) -> None:
        """Stops the engine if rsalign started it; an adopted one runs on. Idempotent."""
        ...


class VllmEngine(Engine, Protocol):
    """An engine that is vLLM, with what only vLLM has."""

    @property
    def vllm_config(self) -> "VllmConfig":
        """The engine's whole configuration."""
        ...

    @property
    def renderer(self) -> Any:
        """VLLM's renderer of conversations for this model (`vllm.renderers`)."""
        ...

    def load_adapter(self, request: "LoRARequest") -> None:
        """Loads a LoRA adapter, so that a wrong one is found before the first request.

        Raises:
            ConfigError: if it does not fit the model.
        """
        ...


Backend = Literal["auto", "in_process", "async"]
"""Where rsalign runs a vLLM engine: in this process, or in one of its own (`AsyncLLM`)."""

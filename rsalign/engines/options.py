"""What goes with each request to an engine besides its prompt and its law."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from rsalign.core.errors import ConfigError
from rsalign.core.types import Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOptions:
    """Settings that a policy sends with every request to its engine.

    None of them changes the law that tokens are drawn from, except `lora_request`, which is
    therefore part of the policy's fingerprint.

    Attributes:
        priority: of the engine's scheduler; lower is served first (vLLM's ``--scheduling-policy
            priority``).
        cache_salt: requests share cached prefixes with requests of the same salt only; empty: with
            those without one.
        lora_request: vLLM's `LoRARequest` of the adapter that draws; None: the base model.
        watermarking: False leaves out the watermark of an engine that has one; None: as the engine
            does.
        skip_reading_prefix_cache: compute prefixes anew.
        data_parallel_rank: the engine that takes the request, of several.
        session_id: for engines that route by it.
        trace_headers: of the client's trace.
        reasoning_ended: whether the prompt is past the reasoning, where a grammar waits for its
            end; None: the engine finds out.
        reasoning_parser_kwargs: for the engine's reasoning parser.
        num_logprobs: list the log-probabilities of so many most probable tokens beside that of each
            drawn one; -1: of all tokens; None: of none (vLLM's ``logprobs``).
        logprob_token_ids: list those of these tokens instead.
    """

    priority: int = 0
    cache_salt: str = ""
    lora_request: Any = None
    watermarking: bool | None = None
    skip_reading_prefix_cache: bool = False
    data_parallel_rank: int | None = None
    session_id: str | None = None
    trace_headers: Mapping[str, str] | None = field(default=None, repr=False)
    reasoning_ended: bool | None = None
    reasoning_parser_kwargs: Mapping[str, Any] | None = None
    num_logprobs: int | None = None
    logprob_token_ids: Tokens = ()

    @property
    def lists_log_probs(self) -> bool:
        """Whether tokens other than the drawn ones are to be listed."""
        return bool(self.num_logprobs or self.logprob_token_ids)

    def prompt(self, tokens: Tokens) -> dict[str, Any]:
        """The prompt as vLLM's engines take it."""
        # with its type vLLM takes it at once, and not by way of a thread
        prompt: dict[str, Any] = {"type": "token", "prompt_token_ids": list(tokens)}
        return prompt | ({"cache_salt": self.cache_salt} if self.cache_salt else {})

    def arguments(self) -> dict[str, Any]:
        """Those that are set, as arguments of vLLM's `AsyncLLM.generate`."""
        return {name: value for name, value in self.given().items() if name in _ARGUMENTS}

    def refuse_beside_process(self) -> None:
        """Refuses what an engine in this process (`LLMEngine.add_request`) does not take.

        Raises:
            ConfigError: naming the option.
        """
        for name in self.arguments().keys() - _IN_PROCESS:
            raise ConfigError(
                f"{name}={getattr(self, name)!r} cannot be honoured by an engine in this process: "
                "use an AsyncLLM (backend='async')"
            )

    def given(self) -> dict[str, Any]:
        """Those that are set, by name."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {n: value for n, value in values.items() if value != getattr(NO_OPTIONS, n)}

    def over(self, other: "RequestOptions") -> "RequestOptions":
        """Those that are set here, and the other's for the rest."""
        return replace(other, **self.given())


_ARGUMENTS = (
    *("priority", "lora_request", "data_parallel_rank", "session_id", "trace_headers"),
    *("reasoning_ended", "reasoning_parser_kwargs"),
)
_IN_PROCESS = {"priority", "lora_request", "session_id", "trace_headers"}
NO_OPTIONS = RequestOptions()

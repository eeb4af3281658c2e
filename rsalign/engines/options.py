"""The settings of a request to an engine besides its prompt and its law."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from rsalign.core.codes import Code
from rsalign.core.errors import ConfigError
from rsalign.core.types import Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOptions:
    """Settings that a policy sends with every request to its engine.

    None changes the law that tokens are drawn from except `lora_request` and, of several answers
    together, `code`, which are therefore part of the policy's fingerprint.

    Attributes:
        priority: for the engine's scheduler; lower is served first (vLLM's ``--scheduling-policy
            priority``).
        cache_salt: requests share cached prefixes only with requests of the same salt; empty: with
            those that have none.
        lora_request: vLLM's `LoRARequest` of the adapter that draws; None: the base model.
        watermarking: False leaves out the watermark of an engine that has one; None: the engine's
            default.
        skip_reading_prefix_cache: compute prefixes again, although they are cached.
        data_parallel_rank: which of several data-parallel engines takes the request.
        session_id: for engines that route by it.
        trace_headers: of the client's trace.
        reasoning_ended: whether the reasoning ends within the prompt, for a grammar that applies
            only after it; None: the engine finds out.
        reasoning_parser_kwargs: for the engine's reasoning parser.
        num_logprobs: number of most probable tokens whose log-probabilities are returned beside
            that of each drawn token; -1: all tokens; None: none (vLLM's ``logprobs``).
        logprob_token_ids: the tokens whose log-probabilities are returned instead.
        code: decides what is drawn (`rsalign.core.codes`). No log-probabilities are returned then.

    Example:
        >>> RequestOptions(priority=2).over(RequestOptions(priority=1, cache_salt="a")).given()
        {'priority': 2, 'cache_salt': 'a'}
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
    code: Code | None = None

    @property
    def lists_log_probs(self) -> bool:
        """Whether log-probabilities of tokens other than the drawn ones are returned."""
        return bool(self.num_logprobs or self.logprob_token_ids)

    def vllm_prompt(self, tokens: Tokens) -> dict[str, Any]:
        """Returns the prompt in the form that vLLM's engines take."""
        # with its type vLLM takes it at once, and not through a thread
        prompt: dict[str, Any] = {"type": "token", "prompt_token_ids": list(tokens)}
        return prompt | ({"cache_salt": self.cache_salt} if self.cache_salt else {})

    def vllm_arguments(self) -> dict[str, Any]:
        """Returns the options that are set and that are arguments of vLLM's `generate`."""
        return {name: value for name, value in self.given().items() if name in _ARGUMENTS}

    def check_in_process(self) -> None:
        """Refuses options that an engine in this process (`LLMEngine.add_request`) does not take.

        Raises:
            ConfigError: naming the option.
        """
        for name in self.vllm_arguments().keys() - _IN_PROCESS:
            raise ConfigError(
                f"{name}={getattr(self, name)!r} cannot be honoured by an engine in this process: "
                "use an AsyncLLM (backend='async')"
            )

    def given(self) -> dict[str, Any]:
        """Returns the options that are set, by name."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {n: value for n, value in values.items() if value != getattr(NO_OPTIONS, n)}

    def over(self, other: "RequestOptions") -> "RequestOptions":
        """Returns the options that are set here, and those of `other` for the rest."""
        return replace(other, **self.given())


_ARGUMENTS = (
    *("priority", "lora_request", "data_parallel_rank", "session_id", "trace_headers"),
    *("reasoning_ended", "reasoning_parser_kwargs"),
)
_IN_PROCESS = {"priority", "lora_request", "session_id", "trace_headers"}
NO_OPTIONS = RequestOptions()

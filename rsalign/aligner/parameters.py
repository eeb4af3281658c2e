"""Reads vLLM's `SamplingParams`: the law, the length, and how answers are presented."""

import json
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from rsalign.core.checks import quote
from rsalign.core.errors import ConfigError
from rsalign.core.types import Sampling, Tokens
from rsalign.engines.options import NO_OPTIONS, RequestOptions
from rsalign.hooks.guided.request import read_guidance
from rsalign.hooks.shared.arguments import is_guidance
from rsalign.words.fields import refuse

if TYPE_CHECKING:
    from vllm import SamplingParams


class SamplingAttributes(Protocol):
    """Anything with the attributes of vLLM's `SamplingParams` that decide an answer."""

    @property
    def n(self) -> int:
        """Number of answers."""
        ...

    @property
    def seed(self) -> int | None:
        """Root of the randomness; None: the caller's own."""
        ...

    @property
    def max_tokens(self) -> int | None:
        """Greatest number of tokens of an answer; None: as many as the context has room for."""
        ...

    @property
    def temperature(self) -> float:
        """Divides the logits; 0 is greedy decoding."""
        ...


SamplingParamsLike: TypeAlias = "SamplingParams | Sampling | SamplingAttributes | Literal['model']"
"""vLLM's `SamplingParams`, any object with its attributes, or a law alone: a `Sampling`, or
``"model"`` for the one that the model's authors recommend (``generation_config.json``)."""

_UNSET = (None, False)
_PRESENTATION: Mapping[str, Any] = {
    "logprobs": None,
    "logprob_token_ids": None,
    "detokenize": True,
    "skip_special_tokens": True,
    "spaces_between_special_tokens": True,
    "include_stop_str_in_output": False,
}
"""Fields that change how vLLM presents an answer, with their defaults."""
_UNLIMITED = 1 << 30  # the engine ends a response at the end of its context


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What `SamplingParams` say, read.

    Attributes:
        sampling: the law; None: the policy's own.
        max_tokens: greatest length of an answer; None: the strategy's own.
        n: number of independent answers.
        seed: root of their randomness; None: not given.
        options: what goes with each request to the engine.
        presentation: the `SamplingParams`, if they change how answers are presented; else None.

    Example:
        >>> read_parameters(Sampling(temperature=0.5)).sampling.temperature
        0.5
    """

    sampling: Sampling | None = None
    max_tokens: int | None = None
    n: int = 1
    seed: int | None = None
    options: RequestOptions = NO_OPTIONS
    presentation: "SamplingParams | None" = None


def read_parameters(given: "SamplingParamsLike | None") -> Parameters:
    """Reads `SamplingParams`.

    Raises:
        ConfigError: if a parameter is set that cannot be honoured; none is ever ignored.
    """
    if given is None or isinstance(given, Sampling):
        return Parameters(sampling=given)
    refuse_unsupported(given)
    params: Any = given
    return Parameters(
        sampling=read_sampling(params),
        max_tokens=params.max_tokens if params.max_tokens is not None else _UNLIMITED,
        n=params.n,
        seed=params.seed,
        options=_read_options(params),
        presentation=params if _changes_presentation(params) else None,
    )


def _changes_presentation(params: Any) -> bool:
    return any(getattr(params, name, default) != default for name, default in _PRESENTATION.items())


def _read_options(params: Any) -> RequestOptions:
    """What `SamplingParams` say of requests to the engine."""
    return RequestOptions(
        watermarking=getattr(params, "watermarking", None),
        skip_reading_prefix_cache=bool(getattr(params, "skip_reading_prefix_cache", False)),
        # the log-probabilities of the drawn tokens are known without being asked for
        num_logprobs=getattr(params, "logprobs", None) or None,
        logprob_token_ids=tuple(getattr(params, "logprob_token_ids", None) or ()),
    )


def read_sampling(params: Any) -> Sampling:
    """The law that vLLM's `SamplingParams` stand for.

    Raises:
        ConfigError: if a value has a type or a range that no law can have, or their `extra_args`
            ask for guidance in a way that cannot be.
    """
    return Sampling(
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=max(params.top_k, 0),
        min_p=params.min_p,
        repetition_penalty=params.repetition_penalty,
        logit_bias=_read_biases(params.logit_bias),
        allowed_token_ids=read_token_ids("allowed_token_ids", params.allowed_token_ids),
        stop=_read_strings("stop", params.stop),
        stop_token_ids=read_token_ids("stop_token_ids", params.stop_token_ids),
        guidance=read_guidance(getattr(params, "extra_args", None)),
        ignore_eos=getattr(params, "ignore_eos", False),
        min_tokens=getattr(params, "min_tokens", 0),
        presence_penalty=getattr(params, "presence_penalty", 0.0),
        frequency_penalty=getattr(params, "frequency_penalty", 0.0),
        bad_words=_read_strings("bad_words", getattr(params, "bad_words", None)),
        structured_outputs=_read_grammar(getattr(params, "structured_outputs", None)),
        thinking_token_budget=getattr(params, "thinking_token_budget", None),
    )


def _read_grammar(given: Any) -> str:
    """VLLM's `StructuredOutputsParams` as `Sampling.structured_outputs`.

    Raises:
        ConfigError: if it is not JSON.
    """
    if given is None:
        return ""
    values = {each.name: getattr(given, each.name) for each in fields(given) if each.init}
    try:
        # the order of a schema's properties is that of the answer's
        return json.dumps({name: value for name, value in values.items() if value not in _UNSET})
    except (TypeError, ValueError) as wrong:
        raise ConfigError(f"structured_outputs={given!r} is no JSON: {wrong}") from wrong


def _read_strings(name: str, given: Any) -> tuple[str, ...]:
    """One string or a list of strings, as a tuple.

    Raises:
        ConfigError: if it is neither.
    """
    many = () if given is None else [given] if isinstance(given, str) else given
    if not is_list(many) or not all(isinstance(each, str) for each in many):
        raise ConfigError(f"{name}={quote(given)}: give a string, or a list of strings")
    return tuple(many)


def is_list(given: Any) -> bool:
    """Whether a value is a sequence other than text."""
    return isinstance(given, Sequence) and not isinstance(given, str | bytes)


def _read_biases(given: Any) -> tuple[tuple[int, float], ...]:
    """Pairs of token id and bias; keys may be text, as in a JSON object.

    Raises:
        ConfigError: naming the first key that is no token id.
    """
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"logit_bias={quote(given)}: give a dictionary of token ids and what is added to their "
            "logits, such as {40: 5.0}"
        )
    return tuple((_read_token(key, "logit_bias"), bias) for key, bias in given.items())


def read_token_ids(name: str, given: Any) -> Tokens:
    """Token ids from a list.

    Raises:
        ConfigError: naming the first value that is no token id.
    """
    if given is None:
        return ()
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise ConfigError(f"{name}={quote(given)}: give a list of token ids")
    return tuple(_read_token(token, name) for token in given)


def _read_token(given: Any, name: str) -> int:
    if isinstance(given, str) and given.isascii() and given.isdecimal():
        return int(given) if len(given) < 20 else 1 << 64  # longer than any vocabulary
    if isinstance(given, bool):
        raise ConfigError(f"{name} has {given!r} where a token id is expected, a whole number")
    try:
        return operator.index(given)
    except TypeError:
        raise ConfigError(
            f"{name} has {quote(given)} where a token id is expected, a whole number"
        ) from None


def refuse_unsupported(params: Any) -> None:
    """Refuses every parameter that differs from its default and cannot be honoured.

    Raises:
        ConfigError: naming the parameter and the reason.
    """
    kind: type = type(params)
    defaults = _defaults(kind)
    names = getattr(params, "__struct_fields__", None) or vars(params)
    refuse(
        "SamplingParams",
        [(name, getattr(params, name), getattr(defaults, name, None)) for name in names],
    )
    for key in getattr(params, "extra_args", None) or ():
        if not is_guidance(key):
            raise ConfigError(
                f"extra_args has {key!r}, which cannot be honoured: no such parameter is known here"
            )


@cache
def _defaults(kind: type) -> Any:
    return kind()

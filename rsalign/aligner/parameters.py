"""vLLM's `SamplingParams` as a law, and as what goes with requests to the engine."""

import json
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Any

from rsalign.core.checks import quote
from rsalign.core.errors import ConfigError
from rsalign.core.types import Sampling, Tokens
from rsalign.engines.options import RequestOptions
from rsalign.hooks.guided.request import read_guidance
from rsalign.hooks.shared.arguments import is_guidance
from rsalign.words.fields import refuse

_UNSET = (None, False)
_SHOWN: Mapping[str, Any] = {
    "logprobs": None,
    "logprob_token_ids": None,
    "detokenize": True,
    "skip_special_tokens": True,
    "spaces_between_special_tokens": True,
    "include_stop_str_in_output": False,
}
"""How vLLM shows an answer unless it is told otherwise."""


def is_shown(params: Any) -> bool:
    """Whether answers are to be presented in another way than usual."""
    return any(getattr(params, name, default) != default for name, default in _SHOWN.items())


def carried(params: Any) -> RequestOptions:
    """What vLLM's `SamplingParams` say of requests to the engine."""
    return RequestOptions(
        watermarking=getattr(params, "watermarking", None),
        skip_reading_prefix_cache=bool(getattr(params, "skip_reading_prefix_cache", False)),
        # the drawn tokens' own are known without being asked for
        num_logprobs=getattr(params, "logprobs", None) or None,
        logprob_token_ids=tuple(getattr(params, "logprob_token_ids", None) or ()),
    )


def sampling(params: Any) -> Sampling:
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
        logit_bias=_biases(params.logit_bias),
        allowed_token_ids=token_ids("allowed_token_ids", params.allowed_token_ids),
        stop=_strings("stop", params.stop),
        stop_token_ids=token_ids("stop_token_ids", params.stop_token_ids),
        guidance=read_guidance(getattr(params, "extra_args", None)),
        ignore_eos=getattr(params, "ignore_eos", False),
        min_tokens=getattr(params, "min_tokens", 0),
        presence_penalty=getattr(params, "presence_penalty", 0.0),
        frequency_penalty=getattr(params, "frequency_penalty", 0.0),
        bad_words=_strings("bad_words", getattr(params, "bad_words", None)),
        structured_outputs=_grammar(getattr(params, "structured_outputs", None)),
        thinking_token_budget=getattr(params, "thinking_token_budget", None),
    )


def _grammar(given: Any) -> str:
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


def _strings(name: str, given: Any) -> tuple[str, ...]:
    """One string, or a list of them.

    Raises:
        ConfigError: naming the one that is none.
    """
    many = () if given is None else [given] if isinstance(given, str) else given
    if not is_list(many) or not all(isinstance(each, str) for each in many):
        raise ConfigError(f"{name}={quote(given)}: give a string, or a list of strings")
    return tuple(many)


def is_list(given: Any) -> bool:
    """Whether it is a list or the like, and no text."""
    return isinstance(given, Sequence) and not isinstance(given, str | bytes)


def _biases(given: Any) -> tuple[tuple[int, float], ...]:
    """Pairs of token id and bias; a JSON object has its keys as text.

    Raises:
        ConfigError: naming the key that is no token id.
    """
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"logit_bias={quote(given)}: give a dictionary of token ids and what is added to their "
            "logits, such as {40: 5.0}"
        )
    return tuple((_token(key, "logit_bias"), bias) for key, bias in given.items())


def token_ids(name: str, given: Any) -> Tokens:
    """Token ids of a list.

    Raises:
        ConfigError: naming the one that is none.
    """
    if given is None:
        return ()
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise ConfigError(f"{name}={quote(given)}: give a list of token ids")
    return tuple(_token(token, name) for token in given)


def _token(given: Any, name: str) -> int:
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
    """Refuses every parameter that has another value than its default and is not honoured.

    Raises:
        ConfigError: naming the parameter and the reason.
    """
    kind: type = type(params)
    defaults = _defaults(kind)
    names = getattr(params, "__struct_fields__", None) or vars(params)
    refuse(
        "SamplingParams",
        ((name, getattr(params, name), getattr(defaults, name, None)) for name in names),
    )
    for key in getattr(params, "extra_args", None) or ():
        if not is_guidance(key):
            raise ConfigError(
                f"extra_args has {key!r}, which cannot be honoured: no such parameter is known here"
            )


@cache
def _defaults(kind: type) -> Any:
    return kind()

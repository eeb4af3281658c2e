"""What the body of a request to the gateway asks for."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from rsalign.core.checks import SEED, check_int
from rsalign.core.errors import ConfigError
from rsalign.core.protocols import Strategy
from rsalign.core.types import Sampling
from rsalign.serve.rules import RequestRules, StrategyRequest
from rsalign.strategies.plain import Plain
from rsalign.words.length import with_max_tokens
from rsalign.words.messages import show, suggest
from rsalign.words.read import STRATEGY, Specification, read_flat, read_object
from rsalign.words.request import one_seed, refuse_others

_SAMPLING = tuple(field.name for field in fields(Sampling) if field.init)
_TEMPLATE = ("chat_template_kwargs", "tools", "documents", "reasoning_effort")
_REQUEST = ("model", "messages", "prompt", "max_tokens", "max_completion_tokens", "seed", "n")
_OURS = (*_REQUEST, "stream", "stream_options", STRATEGY, "vllm_xargs", *_TEMPLATE)
_INERT = ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key")
_STREAM_OPTIONS = ("include_usage", "include_progress")


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """One request, read and checked.

    Attributes:
        prompt: as `Aligner.astream` takes it.
        strategy: with the length of the answer.
        asked: the rest of what was asked for; None: a plain draw.
        sampling: the law that is drawn from; None: temperature 1, no truncation.
        seed: root of the request's randomness; None: any.
        stream: whether the answer is wanted in pieces.
        include_usage: whether a stream ends with an event of usage.
        include_progress: whether a stream has events of progress.
    """

    prompt: Any
    strategy: Strategy
    asked: StrategyRequest | None
    sampling: Sampling | None
    seed: int | None
    stream: bool
    include_usage: bool
    include_progress: bool


def read_body(body: Any, rules: RequestRules, model: str, *, is_chat: bool) -> Body:
    """Reads the body of a request to one of the two endpoints.

    Args:
        body: JSON.
        rules: what requests may ask for.
        model: the name that is served; with ``:STRATEGY`` behind it, it names a strategy.
        is_chat: whether it has ``messages``, or else a ``prompt``.

    Raises:
        ConfigError: if a field is unknown, has a value that cannot be used, or asks for what the
            gateway cannot give.
    """
    if not isinstance(body, Mapping):
        raise ConfigError(f"the body is {show(body)}: give a JSON object")
    known = (*_OURS, *_SAMPLING, *_INERT)
    for name in body:
        if name not in known:
            raise ConfigError(f"the gateway has no field {show(name)}{suggest(str(name), known)}")
    if body.get("n") not in (None, 1):
        raise ConfigError(f"n={show(body['n'])}: the gateway gives one answer to a request")
    options = body.get("stream_options") or {}
    if not isinstance(options, Mapping) or not {*options} <= {*_STREAM_OPTIONS}:
        raise ConfigError(
            f"stream_options={show(options)}: give an object of {' and '.join(_STREAM_OPTIONS)}"
        )
    words = _words(body, model)
    asked = rules.read(words)
    seed = one_seed(body.get("seed"), asked.seed if asked else None)
    return Body(
        prompt=_prompt(body, is_chat=is_chat),
        strategy=_strategy(body, asked),
        asked=asked,
        sampling=_sampling(body),
        seed=None if seed is None else check_int("request", "seed", seed, SEED),
        stream=body.get("stream") is True,
        include_usage=options.get("include_usage") is True,
        include_progress=options.get("include_progress") is True,
    )


def _words(body: Mapping[str, Any], model: str) -> Specification | None:
    """The strategy and its settings, from the body, ``vllm_xargs`` and the model's alias."""
    extra = body.get("vllm_xargs")
    if extra is not None and not isinstance(extra, Mapping):
        raise ConfigError(f"vllm_xargs={show(extra)}: give an object")
    refuse_others(extra)
    found = [read_object(body[STRATEGY])] if body.get(STRATEGY) is not None else []
    if (flat := read_flat(extra)) is not None:
        found.append(flat)
    named = body.get("model") or model
    if named != model:
        before, colon, alias = str(named).rpartition(":")
        if not colon or before != model:
            raise ConfigError(f"model={show(named)}: this gateway serves {model!r}")
        found.append(Specification(name=alias))
    words: Specification | None = None
    for each in found:
        words = each if words is None else words.joined(each)
    return words


def _prompt(body: Mapping[str, Any], *, is_chat: bool) -> Any:
    if is_chat:
        if not isinstance(body.get("messages"), list):
            raise ConfigError("messages: give a list of messages, each with role and content")
        given = {name: body[name] for name in _TEMPLATE if body.get(name) is not None}
        return {"messages": body["messages"], **given}
    prompt = body.get("prompt")
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, list) and prompt and all(type(token) is int for token in prompt):
        return {"prompt_token_ids": prompt}
    raise ConfigError(f"prompt={show(prompt)}: give a text or a list of token ids")


def _strategy(body: Mapping[str, Any], asked: StrategyRequest | None) -> Strategy:
    strategy = Plain() if asked is None else asked.strategy
    given = [body.get("max_completion_tokens"), body.get("max_tokens")]
    given.append(asked.max_tokens if asked else None)
    limits = [
        check_int("request", "max_tokens", limit, SEED) for limit in given if limit is not None
    ]
    return with_max_tokens(strategy, min(limits)) if limits else strategy


def _sampling(body: Mapping[str, Any]) -> Sampling | None:
    given = {name: body[name] for name in _SAMPLING if body.get(name) is not None}
    if isinstance(given.get("stop"), str):
        given["stop"] = (given["stop"],)
    if isinstance(bias := given.get("logit_bias"), Mapping):
        try:
            given["logit_bias"] = tuple((int(token), value) for token, value in bias.items())
        except ValueError as wrong:
            raise ConfigError(f"logit_bias={show(bias)}: its keys are token ids") from wrong
    return Sampling(**given) if given else None

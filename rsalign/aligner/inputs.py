"""What users pass in, as prompts, laws and limits; everything is checked before any work."""

import json
import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache, partial
from typing import Any, TypeAlias, TypeVar

from rsalign.checks import shown
from rsalign.errors import ConfigError, RsalignError
from rsalign.foreign import errors_as, told
from rsalign.hooks.guidance import is_guidance, read_guidance
from rsalign.key import Label
from rsalign.protocols import Encoder, Policy, Strategy
from rsalign.response_text import response_text
from rsalign.types import Message, Prompt, Sampling, Tokens

TextOrTokens: TypeAlias = str | Mapping[str, Any]
"""A text, ``{"prompt": text}`` or ``{"prompt_token_ids": ids}`` as vLLM takes them, or
``{"messages": [...]}``, which is rendered by the chat template, unless its ``"prompt_token_ids"``
come with it. A dictionary may have an ``"id"``, which then takes the place of its position."""
Conversation: TypeAlias = Sequence[Mapping[str, Any] | Message]

S = TypeVar("S")

_NO_LIMIT = 1 << 30  # the engine ends a response where its context does

_PRESENTATION = frozenset(
    {
        *("output_kind", "detokenize", "skip_special_tokens", "stream_interval"),
        "output_text_buffer_length",  # vLLM derives it from the stop strings
    }
)
_TRANSLATED = frozenset(
    {
        *("n", "seed", "max_tokens", "temperature", "top_p", "top_k", "min_p"),
        *("repetition_penalty", "logit_bias", "allowed_token_ids", "stop", "stop_token_ids"),
    }
)
_REASONS = {
    "presence_penalty": "it depends on where the prompt ended, so segments would change the law",
    "frequency_penalty": "it depends on where the prompt ended, so segments would change the law",
    "min_tokens": "it depends on where the prompt ended, so segments would change the law",
    "ignore_eos": "the end-of-sequence token is part of a response",
    "logprobs": "log-probabilities come as cumulative_logprob, without being asked for",
    "extra_args": "no such parameter is known here",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One prompt with all that decides its answer.

    Attributes:
        prompt: what is answered.
        strategy: with the limit of its length.
        sampling: None: the policy's own law.
        n: number of independent answers.
        seed: takes the place of the aligner's; None: it does not.
    """

    prompt: Prompt
    strategy: Strategy
    sampling: Sampling | None = None
    n: int = 1
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A prompt that cannot be answered.

    Attributes:
        text: the prompt as it was given.
        error: why.
    """

    text: str
    error: RsalignError


def prompts(given: TextOrTokens | Sequence[TextOrTokens], policy: Policy) -> list[Prompt | Refused]:
    """Prompts of `generate`; one that cannot be answered is refused by itself.

    What the policy's tokenizer or chat template raises on a prompt refuses that prompt.

    Raises:
        ConfigError: if there is none at all.
    """
    many = _items(given)
    if not many:
        raise ConfigError("the list of prompts is empty: give at least one")
    found = [_tried(i, item, _prompt, policy) for i, item in enumerate(many)]
    seen: set[Label] = set()
    for position, item in enumerate(many):
        name = _id(item, position)
        if isinstance(name, str | int) and name not in seen:
            seen.add(name)
            continue
        error = ConfigError(
            f"prompt {position} has id {shown(name)}: an id is text or a whole number, and no two "
            "prompts of a call have the same (it is the address of their draws)"
        )
        found[position] = Refused(_shown(item), error)
    return found


def ids(given: TextOrTokens | Sequence[TextOrTokens]) -> list[Label]:
    """What the prompts of `generate` are called: their ``"id"``, else their position.

    `prompts` refuses those whose id is no name, or another prompt's.
    """
    names = [_id(item, position) for position, item in enumerate(_items(given))]
    return [name if isinstance(name, str | int) else shown(name) for name in names]


def _items(given: Any) -> list[Any]:
    """All prompts of a call.

    Raises:
        ConfigError: if they are neither one prompt nor a list.
    """
    if isinstance(given, str | Mapping):
        return [given]
    if not isinstance(given, Collection) or isinstance(given, bytes):
        raise ConfigError(
            f"prompts={shown(given)}: give a text, {{'prompt_token_ids': [...]}}, or a list of them"
        )
    return list(given)


def _id(item: Any, position: int) -> Any:
    return item.get("id", position) if isinstance(item, Mapping) else position


def conversations(
    given: Conversation | Sequence[Conversation],
    policy: Policy,
    *,
    chat_template: str | None,
    add_generation_prompt: bool,
) -> list[Prompt | Refused]:
    """Prompts of `chat`; as in `prompts`."""
    if not _is_list(given):
        raise ConfigError(
            f"messages={shown(given)}: give a list of {{'role': ..., 'content': ...}}, or a list "
            "of such lists"
        )
    if not given:
        raise ConfigError("the list of messages is empty: give at least one message")
    many = [given] if isinstance(given[0], Mapping | Message) else given
    render = partial(
        _conversation, chat_template=chat_template, add_generation_prompt=add_generation_prompt
    )
    return [_tried(i, item, render, policy) for i, item in enumerate(many)]


def per_prompt(given: S | Sequence[S] | None, count: int, what: str) -> list[S | None]:
    """One value for all prompts, or one per prompt.

    Raises:
        ConfigError: if a list has another length than the prompts.
    """
    if not isinstance(given, list | tuple):
        return [given] * count  # type: ignore[list-item]
    if len(given) != count:
        raise ConfigError(
            f"{len(given)} {what} for {count} prompts: give one for all, or one per prompt"
        )
    return list(given)


def request(prompt: Prompt, params: Any, strategy: Strategy) -> Request:
    """Applies vLLM `SamplingParams` (or anything with its attributes) to a strategy.

    Raises:
        ConfigError: if a parameter is set that cannot be honoured; none is ever ignored.
    """
    if params is None or isinstance(params, Sampling):
        return Request(prompt=prompt, strategy=strategy, sampling=params)
    refuse_unsupported(params)
    max_tokens = params.max_tokens if params.max_tokens is not None else _NO_LIMIT
    return Request(
        prompt=prompt,
        strategy=with_max_tokens(strategy, max_tokens),
        sampling=sampling(params),
        n=params.n,
        seed=params.seed,
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
        allowed_token_ids=_tokens("allowed_token_ids", params.allowed_token_ids),
        stop=_strings("stop", params.stop),
        stop_token_ids=_tokens("stop_token_ids", params.stop_token_ids),
        guidance=read_guidance(getattr(params, "extra_args", None)),
    )


def _strings(name: str, given: Any) -> tuple[str, ...]:
    """One string, or a list of them.

    Raises:
        ConfigError: naming the one that is none.
    """
    many = () if given is None else [given] if isinstance(given, str) else given
    if not _is_list(many) or not all(isinstance(each, str) for each in many):
        raise ConfigError(f"{name}={shown(given)}: give a string, or a list of strings")
    return tuple(many)


def _is_list(given: Any) -> bool:
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
            f"logit_bias={shown(given)}: give a dictionary of token ids and what is added to their "
            "logits, such as {40: 5.0}"
        )
    return tuple((_token(key, "logit_bias"), bias) for key, bias in given.items())


def _tokens(name: str, given: Any) -> Tokens:
    """Token ids of a list.

    Raises:
        ConfigError: naming the one that is none.
    """
    if given is None:
        return ()
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise ConfigError(f"{name}={shown(given)}: give a list of token ids")
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
            f"{name} has {shown(given)} where a token id is expected, a whole number"
        ) from None


def refuse_unsupported(params: Any) -> None:
    """Refuses every parameter that has another value than its default and is not honoured.

    Raises:
        ConfigError: naming the parameter and the reason.
    """
    kind: type = type(params)
    defaults = _defaults(kind)
    names = getattr(params, "__struct_fields__", None) or vars(params)
    for name in names:
        if name.startswith("_") or name in _PRESENTATION or name in _TRANSLATED:
            continue
        value, default = getattr(params, name), getattr(defaults, name, None)
        if name == "extra_args" and all(map(is_guidance, value or ())):
            continue
        if value != default:
            reason = _REASONS.get(name, "strategies do not support it")
            raise ConfigError(f"sampling_params.{name}={value!r} cannot be honoured: {reason}")


@cache
def _defaults(kind: type) -> Any:
    return kind()


def with_max_tokens(strategy: Strategy, max_tokens: int) -> Strategy:
    """The same strategy, and all inside it, with another bound of the whole response.

    Raises:
        ConfigError: if it has no such parameter.
    """
    limited = _limited(strategy, max_tokens)
    if limited is strategy and not _has_limit(strategy):
        raise ConfigError(
            f"{type(strategy).__name__} has no max_tokens to set from sampling_params: set its "
            "length in the strategy, and leave sampling_params=None"
        )
    return limited


def _limited(strategy: Any, max_tokens: int) -> Strategy:
    changes = {
        field.name: max_tokens
        if field.name == "max_tokens"
        else _limited(getattr(strategy, field.name), max_tokens)
        for field in fields(strategy)
        if field.name == "max_tokens" or _is_strategy(getattr(strategy, field.name))
    }
    limited: Strategy = replace(strategy, **changes) if changes else strategy
    return limited


def _has_limit(strategy: Any) -> bool:
    return any(
        field.name == "max_tokens"
        or (
            _is_strategy(getattr(strategy, field.name))
            and _has_limit(getattr(strategy, field.name))
        )
        for field in fields(strategy)
    )


def _is_strategy(value: Any) -> bool:
    return is_dataclass(value) and not isinstance(value, type) and hasattr(value, "sample")


def _prompt(item: TextOrTokens, policy: Policy) -> Prompt:
    if isinstance(item, str):
        if not item:
            raise ConfigError("the prompt is empty: give some text")
        return Prompt((Message("user", item),), tuple(_encoder(policy).encode(item)))
    if isinstance(item, Mapping):
        if "messages" in item and "prompt_token_ids" in item:
            return Prompt(_messages(item["messages"]), _token_ids(item["prompt_token_ids"]))
        if "messages" in item:
            return _conversation(item["messages"], policy)
        if "prompt_token_ids" in item:
            tokens = _token_ids(item["prompt_token_ids"])
            text = item.get("prompt") or response_text(policy, (), tokens)
            return Prompt((Message("user", text),), tokens)
        if isinstance(item.get("prompt"), str):
            return _prompt(item["prompt"], policy)
        raise ConfigError(
            f"a prompt has the keys {sorted(item)}: give 'prompt' (text), 'messages' or "
            "'prompt_token_ids'"
        )
    raise ConfigError(
        f"a prompt is a {type(item).__name__}: give a str, or a dict with 'prompt' or "
        "'prompt_token_ids'; for messages use chat()"
    )


def _conversation(
    conversation: Conversation,
    policy: Policy,
    *,
    chat_template: str | None = None,
    add_generation_prompt: bool = True,
) -> Prompt:
    messages = _messages(conversation)
    tokens = _encoder(policy).encode_chat(
        messages, chat_template=chat_template, add_generation_prompt=add_generation_prompt
    )
    return Prompt(messages, tuple(tokens))


def _token_ids(ids: Any) -> Tokens:
    tokens = _tokens("prompt_token_ids", ids)
    if not tokens:
        raise ConfigError("prompt_token_ids is empty: a policy needs at least one token")
    return tokens


def _messages(conversation: Conversation) -> tuple[Message, ...]:
    if isinstance(conversation, str | Mapping) or not isinstance(conversation, Iterable):
        raise ConfigError(
            f"messages={shown(conversation)}: give a list of {{'role': ..., 'content': ...}}"
        )
    return tuple(map(Message.of, conversation))


def _encoder(policy: Policy) -> Encoder:
    if not isinstance(policy, Encoder):
        raise ConfigError(
            f"{type(policy).__name__} has no tokenizer: give prompts as "
            "{'prompt_token_ids': [...]}, or a policy with encode() and encode_chat()"
        )
    return policy


def _tried(
    index: int, item: Any, make: Callable[[Any, Policy], Prompt], policy: Policy
) -> Prompt | Refused:
    def failed(failure: BaseException) -> ConfigError:
        return ConfigError(
            f"the policy cannot read it ({told(failure)}): {shown(item)}{_remark(item)}"
        )

    try:
        with errors_as(failed):
            return make(item, policy)
    except RsalignError as error:
        numbered = ConfigError(f"prompt {index}: {error}")
        numbered.__cause__ = error
        return Refused(_shown(item), numbered)


def _shown(item: Any) -> str:
    """A prompt as it was given, for whoever looks for it in the results."""
    return item if isinstance(item, str) else shown(item)


def _remark(item: Any) -> str:
    """What is often wrong with a text that no tokenizer reads."""
    try:
        json.dumps(item, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        return "; it has half of a surrogate pair, which is no character: decode the text again"
    except (TypeError, ValueError):
        return ""
    return ""

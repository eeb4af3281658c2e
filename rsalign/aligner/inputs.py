"""What users pass in, as prompts, laws and limits; everything is checked before any work."""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

from rsalign.aligner.parameters import (
    carried,
    is_list,
    is_shown,
    refuse_unsupported,
    sampling,
    token_ids,
)
from rsalign.core.checks import quote
from rsalign.core.errors import ConfigError, RsalignError
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.key import Label
from rsalign.core.protocols import Encoder, Policy, Strategy
from rsalign.core.text.response_text import response_text
from rsalign.core.types import Message, Prompt, Sampling, Tokens
from rsalign.engines.options import NO_OPTIONS, RequestOptions
from rsalign.words.fields import refuse
from rsalign.words.length import with_max_tokens

TextOrTokens: TypeAlias = str | Mapping[str, Any]
"""A text, ``{"prompt": text}`` or ``{"prompt_token_ids": ids}`` as vLLM takes them, or
``{"messages": [...]}``, which is rendered by the chat template, unless its ``"prompt_token_ids"``
come with it. A dictionary may have an ``"id"``, which then takes the place of its position."""
Conversation: TypeAlias = Sequence[Mapping[str, Any] | Message]

S = TypeVar("S")

_OWN_KEYS = ("id", "messages")
_PROMPTS = ("messages", "prompt", "prompt_token_ids")

_NO_LIMIT = 1 << 30  # the engine ends a response where its context does


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One prompt with all that decides its answer.

    Attributes:
        prompt: what is answered.
        strategy: with the limit of its length.
        sampling: None: the policy's own law.
        n: number of independent answers.
        seed: takes the place of the aligner's; None: it does not.
        options: what goes with each of its requests to the engine.
        shown: vLLM's `SamplingParams` that say how its answers are presented; None: as always.
    """

    prompt: Prompt
    strategy: Strategy
    sampling: Sampling | None = None
    n: int = 1
    seed: int | None = None
    options: RequestOptions = NO_OPTIONS
    shown: Any = None


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
            f"prompt {position} has id {quote(name)}: an id is text or a whole number, and no two "
            "prompts of a call have the same (it is the address of their draws)"
        )
        found[position] = Refused(_shown(item), error)
    return found


def ids(given: TextOrTokens | Sequence[TextOrTokens]) -> list[Label]:
    """What the prompts of `generate` are called: their ``"id"``, else their position.

    `prompts` refuses those whose id is no name, or another prompt's.
    """
    names = [_id(item, position) for position, item in enumerate(_items(given))]
    return [name if isinstance(name, str | int) else quote(name) for name in names]


def _items(given: Any) -> list[Any]:
    """All prompts of a call.

    Raises:
        ConfigError: if they are neither one prompt nor a list.
    """
    if isinstance(given, str | Mapping):
        return [given]
    if not isinstance(given, Collection) or isinstance(given, bytes):
        raise ConfigError(
            f"prompts={quote(given)}: give a text, {{'prompt_token_ids': [...]}}, or a list of them"
        )
    return list(given)


def _id(item: Any, position: int) -> Any:
    return item.get("id", position) if isinstance(item, Mapping) else position


def cache_salts(given: TextOrTokens | Sequence[TextOrTokens]) -> list[str]:
    """The ``"cache_salt"`` of each prompt of `generate`; empty where it has none."""
    many = _items(given)
    return [item.get("cache_salt") or "" if isinstance(item, Mapping) else "" for item in many]


def conversations(
    given: Conversation | Sequence[Conversation],
    policy: Policy,
    *,
    chat_template: str | None,
    add_generation_prompt: bool,
) -> list[Prompt | Refused]:
    """Prompts of `chat`; as in `prompts`."""
    if not is_list(given):
        raise ConfigError(
            f"messages={quote(given)}: give a list of {{'role': ..., 'content': ...}}, or a list "
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


def request(
    prompt: Prompt, params: Any, strategy: Strategy, options: RequestOptions = NO_OPTIONS
) -> Request:
    """Applies vLLM `SamplingParams` (or anything with its attributes) to a strategy.

    Args:
        prompt: what is answered.
        params: the law, the length, the number of answers and how they are shown.
        strategy: how it is answered.
        options: what goes with each request to the engine, besides what `params` say of that.

    Raises:
        ConfigError: if a parameter is set that cannot be honoured; none is ever ignored.
    """
    if params is None or isinstance(params, Sampling):
        return Request(prompt=prompt, strategy=strategy, sampling=params, options=options)
    refuse_unsupported(params)
    max_tokens = params.max_tokens if params.max_tokens is not None else _NO_LIMIT
    return Request(
        prompt=prompt,
        strategy=with_max_tokens(strategy, max_tokens),
        sampling=sampling(params),
        n=params.n,
        seed=params.seed,
        options=carried(params).over(options),
        shown=params if is_shown(params) else None,
    )


def _prompt(item: TextOrTokens, policy: Policy) -> Prompt:
    if isinstance(item, str):
        if not item:
            raise ConfigError("the prompt is empty: give some text")
        return Prompt((Message("user", item),), tuple(_encoder(policy).encode(item)))
    if isinstance(item, Mapping):
        if not item.keys().isdisjoint(_PROMPTS):
            refuse("prompt", ((key, item[key], None) for key in item if key not in _OWN_KEYS))
        if not isinstance(item.get("cache_salt") or "", str):
            raise ConfigError(f"cache_salt={item['cache_salt']!r}: give a text")
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
        if "prompt" in item:
            raise ConfigError(f"prompt={quote(item['prompt'])}: give a text")
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
    tokens = token_ids("prompt_token_ids", ids)
    if not tokens:
        raise ConfigError("prompt_token_ids is empty: a policy needs at least one token")
    return tokens


def _messages(conversation: Conversation) -> tuple[Message, ...]:
    if isinstance(conversation, str | Mapping) or not isinstance(conversation, Iterable):
        raise ConfigError(
            f"messages={quote(conversation)}: give a list of {{'role': ..., 'content': ...}}"
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
            f"the policy cannot read it ({describe_error(failure)}): {quote(item)}{_remark(item)}"
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
    return item if isinstance(item, str) else quote(item)


def _remark(item: Any) -> str:
    """What is often wrong with a text that no tokenizer reads."""
    try:
        json.dumps(item, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        return "; it has half of a surrogate pair, which is no character: decode the text again"
    except (TypeError, ValueError):
        return ""
    return ""

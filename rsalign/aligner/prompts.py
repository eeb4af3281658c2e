"""Reads the prompts that users pass in; everything is checked before any work."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from rsalign.aligner.parameters import is_list, read_token_ids
from rsalign.core.checks import quote
from rsalign.core.errors import ConfigError
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.key import Label
from rsalign.core.protocols import Encoder, Policy
from rsalign.core.text.response_text import response_text
from rsalign.core.types import Message, Prompt, Tokens
from rsalign.words.fields import refuse

TextOrTokens: TypeAlias = str | Mapping[str, Any]
"""One prompt: a text, ``{"prompt": text}`` or ``{"prompt_token_ids": ids}`` as vLLM takes them, or
``{"messages": [...]}``, which the chat template renders unless ``"prompt_token_ids"`` are given
with it. A dictionary may have an ``"id"``, which names the prompt instead of its position, and a
``"cache_salt"``."""
Conversation: TypeAlias = Sequence[Mapping[str, Any] | Message]
"""Messages, each ``{"role": ..., "content": ...}``."""

_OWN_KEYS = ("id", "messages")
_PROMPTS = ("messages", "prompt", "prompt_token_ids")


@dataclass(frozen=True, slots=True)
class ChatRendering:
    """How conversations become tokens.

    Attributes:
        chat_template: instead of the tokenizer's own.
        add_generation_prompt: whether the assistant's turn is opened at the end.

    Example:
        >>> from rsalign.testing import ToyPolicy
        >>> conversation = [{"role": "user", "content": "1 2"}]
        >>> read_prompt(conversation, ToyPolicy(), ChatRendering()).text
        '1 2'
    """

    chat_template: str | None = None
    add_generation_prompt: bool = True


def list_prompts(given: TextOrTokens | Sequence[TextOrTokens]) -> list[Any]:
    """All prompts of a call to `Aligner.generate`.

    Raises:
        ConfigError: if it is neither one prompt nor a list of prompts, or the list is empty.
    """
    many: object = given
    if isinstance(many, str | Mapping):
        return [many]
    if not isinstance(many, Collection) or isinstance(many, bytes):
        raise ConfigError(
            f"prompts={quote(given)}: give a text, {{'prompt_token_ids': [...]}}, or a list of them"
        )
    if not many:
        raise ConfigError("the list of prompts is empty: give at least one")
    return list(many)


def list_conversations(given: Conversation | Sequence[Conversation]) -> list[Any]:
    """All conversations of a call to `Aligner.chat`.

    Raises:
        ConfigError: if it is neither one conversation nor a list of conversations, or is empty.
    """
    if not is_list(given):
        raise ConfigError(
            f"messages={quote(given)}: give a list of {{'role': ..., 'content': ...}}, or a list "
            "of such lists"
        )
    if not given:
        raise ConfigError("the list of messages is empty: give at least one message")
    return [given] if isinstance(given[0], Mapping | Message) else list(given)


def read_names(prompts: Sequence[Any]) -> list[tuple[Label, ConfigError | None]]:
    """The name of each prompt: its ``"id"``, or its position. It is part of the draws' address.

    Returns:
        For each prompt its name, and an error if that is neither text nor a whole number, or is
        another prompt's.
    """
    seen: set[Label] = set()
    names: list[tuple[Label, ConfigError | None]] = []
    for position, prompt in enumerate(prompts):
        name = prompt.get("id", position) if isinstance(prompt, Mapping) else position
        if isinstance(name, str | int) and name not in seen:
            seen.add(name)
            names.append((name, None))
            continue
        error = ConfigError(
            f"prompt {position} has id {quote(name)}: an id is text or a whole number, and no two "
            "prompts of a call have the same (it is the address of their draws)"
        )
        names.append((name if isinstance(name, str | int) else quote(name), error))
    return names


def read_prompt(given: Any, policy: Policy, rendering: ChatRendering | None = None) -> Prompt:
    """One prompt, with its tokens by the policy's tokenizer and chat template.

    Args:
        given: a prompt of `Aligner.generate`; with `rendering`, a conversation of `Aligner.chat`.
        policy: its tokenizer and chat template are used.
        rendering: how a conversation is rendered.

    Raises:
        ConfigError: if it is no prompt, or the tokenizer or the chat template fails on it.
    """

    def failed(failure: BaseException) -> ConfigError:
        return ConfigError(
            f"the policy cannot read it ({describe_error(failure)}): "
            f"{quote(given)}{_suspect_text(given)}"
        )

    with errors_as(failed):
        if rendering is not None:
            return _render(given, policy, rendering)
        if isinstance(given, str):
            return _read_text(given, policy)
        if isinstance(given, Mapping):
            return _read_mapping(given, policy)
    raise ConfigError(
        f"a prompt is a {type(given).__name__}: give a str, or a dict with 'prompt' or "
        "'prompt_token_ids'; for messages use chat()"
    )


def show_prompt(given: Any) -> str:
    """A prompt as its failed output shows it: text as it was given, anything else in one line."""
    return given if isinstance(given, str) else quote(given)


def read_cache_salt(given: Any) -> str:
    """The ``"cache_salt"`` of a prompt; empty if it has none."""
    return (given.get("cache_salt") or "") if isinstance(given, Mapping) else ""


def _read_text(text: str, policy: Policy) -> Prompt:
    if not text:
        raise ConfigError("the prompt is empty: give some text")
    return Prompt((Message("user", text),), tuple(_require_encoder(policy).encode(text)))


def _read_mapping(given: Mapping[str, Any], policy: Policy) -> Prompt:
    if not given.keys().isdisjoint(_PROMPTS):
        refuse("prompt", ((key, given[key], None) for key in given if key not in _OWN_KEYS))
    if not isinstance(given.get("cache_salt") or "", str):
        raise ConfigError(f"cache_salt={given['cache_salt']!r}: give a text")
    if "messages" in given and "prompt_token_ids" in given:
        return Prompt(_read_messages(given["messages"]), _read_tokens(given["prompt_token_ids"]))
    if "messages" in given:
        return _render(given["messages"], policy, ChatRendering())
    if "prompt_token_ids" in given:
        tokens = _read_tokens(given["prompt_token_ids"])
        text = given.get("prompt") or response_text(policy, (), tokens)
        return Prompt((Message("user", text),), tokens)
    if isinstance(given.get("prompt"), str):
        return _read_text(given["prompt"], policy)
    if "prompt" in given:
        raise ConfigError(f"prompt={quote(given['prompt'])}: give a text")
    raise ConfigError(
        f"a prompt has the keys {sorted(given)}: give 'prompt' (text), 'messages' or "
        "'prompt_token_ids'"
    )


def _render(conversation: Conversation, policy: Policy, rendering: ChatRendering) -> Prompt:
    messages = _read_messages(conversation)
    tokens = _require_encoder(policy).encode_chat(
        messages,
        chat_template=rendering.chat_template,
        add_generation_prompt=rendering.add_generation_prompt,
    )
    return Prompt(messages, tuple(tokens))


def _read_messages(conversation: Conversation) -> tuple[Message, ...]:
    if isinstance(conversation, str | Mapping) or not isinstance(conversation, Iterable):
        raise ConfigError(
            f"messages={quote(conversation)}: give a list of {{'role': ..., 'content': ...}}"
        )
    return tuple(map(Message.of, conversation))


def _read_tokens(ids: Any) -> Tokens:
    tokens = read_token_ids("prompt_token_ids", ids)
    if not tokens:
        raise ConfigError("prompt_token_ids is empty: a policy needs at least one token")
    return tokens


def _require_encoder(policy: Policy) -> Encoder:
    if not isinstance(policy, Encoder):
        raise ConfigError(
            f"{type(policy).__name__} has no tokenizer: give prompts as "
            "{'prompt_token_ids': [...]}, or a policy with encode() and encode_chat()"
        )
    return policy


def _suspect_text(given: Any) -> str:
    """What is often wrong with a text that a tokenizer cannot read; empty if it looks sound."""
    try:
        json.dumps(given, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        return "; it has half of a surrogate pair, which is no character: decode the text again"
    except (TypeError, ValueError):
        return ""
    return ""

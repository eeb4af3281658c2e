"""Reads the prompts that users pass in; everything is checked before any work."""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from rsalign.aligner.chat_prompts import ChatPrompts
from rsalign.aligner.parameters import is_list, read_token_ids
from rsalign.core.checks import quote
from rsalign.core.errors import ConfigError
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.key import Label
from rsalign.core.protocols import Encoder, Policy
from rsalign.core.text.chat_options import NO_CHAT_OPTIONS, ChatOptions, today
from rsalign.core.text.response_text import response_text
from rsalign.core.types import Message, Prompt, Tokens
from rsalign.words.fields import refuse

TextOrTokens: TypeAlias = str | Mapping[str, Any]
"""One prompt: a text, ``{"prompt": text}`` or ``{"prompt_token_ids": ids}`` as vLLM takes them, or
``{"messages": [...]}``, which the chat template renders unless ``"prompt_token_ids"`` are given
with it. A dictionary may have an ``"id"``, which names the prompt instead of its position, a
``"cache_salt"`` and, beside messages, ``"chat_template_kwargs"``, ``"tools"``, ``"documents"`` and
``"reasoning_effort"`` of its own (`ChatOptions`)."""
Conversation: TypeAlias = Sequence[Mapping[str, Any] | Message]
"""Messages, each ``{"role": ..., "content": ...}``."""

_OWN_KEYS = ("id", "messages")
_CHAT_KEYS = ("chat_template_kwargs", "tools", "documents", "reasoning_effort")
"""Keys of a prompt with messages that its chat template is given."""
_PROMPTS = ("messages", "prompt", "prompt_token_ids")


@dataclass(frozen=True, slots=True)
class ChatRendering:
    """How the conversations of a call become tokens.

    Attributes:
        options: of all conversations; a prompt's own come first.
        get_date: returns the day that templates write where no option sets it; a journal's is that
            of its first day (`Aligner`).
        warns_of_date: whether a prompt whose template writes that day has a warning.

    Example:
        >>> from rsalign.testing import ToyPolicy
        >>> conversation = {"messages": [{"role": "user", "content": "1 2"}]}
        >>> read_prompt(conversation, ToyPolicy(), ChatRendering()).text
        '1 2'
    """

    options: ChatOptions = NO_CHAT_OPTIONS
    get_date: Callable[[], str] = today
    warns_of_date: bool = True


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


def read_prompt(
    given: Any,
    policy: Policy,
    rendering: ChatRendering | None = None,
    *,
    is_conversation: bool = False,
) -> Prompt:
    """One prompt, with its tokens by the policy's tokenizer and chat template.

    Args:
        given: a prompt of `Aligner.generate`, or a conversation of `Aligner.chat`.
        policy: its tokenizer and chat template are used.
        rendering: how a conversation is rendered.
        is_conversation: whether `given` is a conversation.

    Raises:
        ConfigError: if it is no prompt, or the tokenizer or the chat template fails on it.
    """

    def failed(failure: BaseException) -> ConfigError:
        return ConfigError(
            f"the policy cannot read it ({describe_error(failure)}): "
            f"{quote(given)}{_suspect_text(given)}"
        )

    rendering = rendering or ChatRendering()
    with errors_as(failed):
        if is_conversation:
            return render_conversation(given, policy, rendering)
        if isinstance(given, str):
            return _read_text(given, policy)
        if isinstance(given, Mapping):
            return _read_mapping(given, policy, rendering)
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
    tokens = tuple(_require_encoder(policy).encode(text))
    return Prompt((Message("user", text),), tokens, warnings=_warn_of_markup(text, policy))


def _read_mapping(given: Mapping[str, Any], policy: Policy, rendering: ChatRendering) -> Prompt:
    own = {name: given[name] for name in _CHAT_KEYS if given.get(name) is not None}
    if not given.keys().isdisjoint(_PROMPTS):
        rest = (key for key in given if key not in (*_OWN_KEYS, *_CHAT_KEYS))
        refuse("prompt", ((key, given[key], None) for key in rest))
    if own and "messages" not in given:
        raise ConfigError(
            f"{next(iter(own))}={quote(next(iter(own.values())))} is for a chat template, and "
            "this prompt is none that it renders: give 'messages'"
        )
    if not isinstance(given.get("cache_salt") or "", str):
        raise ConfigError(f"cache_salt={given['cache_salt']!r}: give a text")
    options = ChatOptions.read(own).over(rendering.options) if own else rendering.options
    if "messages" in given and "prompt_token_ids" in given:
        messages = _read_messages(given["messages"])
        return Prompt(messages, _read_tokens(given["prompt_token_ids"]), options)
    if "messages" in given:
        return render_conversation(given["messages"], policy, replace(rendering, options=options))
    if "prompt_token_ids" in given:
        tokens = _read_tokens(given["prompt_token_ids"])
        text = given.get("prompt") or response_text(policy, (), tokens)
        return Prompt((Message("user", text),), tokens, warnings=_warn_of_markup(text, policy))
    if isinstance(given.get("prompt"), str):
        return _read_text(given["prompt"], policy)
    if "prompt" in given:
        raise ConfigError(f"prompt={quote(given['prompt'])}: give a text")
    raise ConfigError(
        f"a prompt has the keys {sorted(given)}: give 'prompt' (text), 'messages' or "
        "'prompt_token_ids'"
    )


def render_conversation(
    conversation: Conversation, policy: Policy, rendering: ChatRendering
) -> Prompt:
    """The prompt of a conversation, by the policy's chat template.

    Raises:
        ConfigError: if it is no conversation, or the template refuses it.
    """
    messages = _read_messages(conversation)
    rendered = ChatPrompts(_require_encoder(policy), rendering.options)
    options = rendering.options
    warnings: tuple[str, ...] = ()
    if options.date is None and rendered.writes_date(messages):
        options = replace(options, date=rendering.get_date())
        if rendering.warns_of_date:
            warnings = (
                f"the chat template writes the day into the prompt, which is {options.date}: on "
                "another day the same call has another prompt and other answers. Give "
                f"ChatOptions(date='{options.date}') to repeat this one",
            )
    tokens = ChatPrompts(_require_encoder(policy), options).encode(messages)
    return Prompt(messages, tokens, options, warnings)


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


def _warn_of_markup(text: str, policy: Policy) -> tuple[str, ...]:
    """A warning if a plain text looks like a conversation that was rendered already."""
    tokenization = getattr(policy, "tokenization", None)
    find = getattr(getattr(tokenization, "conversations", None), "find_mark", None)
    mark = None if find is None else find(text)
    if mark is None:
        return ()
    return (
        f"the prompt is plain text with {quote(mark)}, which the chat template writes. If it is a "
        "conversation that was rendered already, the tokenizer may begin it twice, and a reward "
        "reads the markup as words of the user: give chat() the messages, or {'messages': [...], "
        "'prompt_token_ids': [...]} to keep your own rendering",
    )


def _suspect_text(given: Any) -> str:
    """What is often wrong with a text that a tokenizer cannot read; empty if it looks sound."""
    try:
        json.dumps(given, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        return "; it has half of a surrogate pair, which is no character: decode the text again"
    except (TypeError, ValueError):
        return ""
    return ""

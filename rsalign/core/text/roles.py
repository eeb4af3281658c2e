"""The same conversation for chat templates that refuse a system message or an order of roles.

Templates of Gemma 2 raise for a system message, and those of Gemma and Mistral for two messages of
one role in a row. What such a template can render says the same: the system message comes before
the first message of the user, as these models are trained, and neighbours of one role are one.
"""

import functools
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from rsalign.core.foreign import describe_error
from rsalign.core.text.messages import Message

T = TypeVar("T")

_log = logging.getLogger(__name__)
_SYSTEM = ("system", "developer")
_BETWEEN = "\n\n"


def render_merged(
    render: Callable[[tuple[Message, ...]], T],
    messages: Sequence[Message],
    on_merge: Callable[[BaseException], None] = lambda refusal: None,
) -> T:
    r"""Renders a conversation, with messages merged if the template refuses it as it is.

    Args:
        render: calls the template; raises if it refuses the conversation.
        messages: the conversation.
        on_merge: called with the template's refusal if messages were merged.

    Raises:
        Exception: what `render` raised last, if merging does not help.

    Example:
        >>> def gemma(messages):
        ...     if messages[0].role == "system":
        ...         raise ValueError("System role not supported")
        ...     return " ".join(message.content for message in messages)
        >>> render_merged(gemma, [Message("system", "Be kind."), Message("user", "Hello")])
        'Be kind.\n\nHello'
    """
    refusal: BaseException | None = None
    for merged in (tries := _mergings(tuple(messages))):
        try:
            found = render(merged)
        except Exception as failure:
            if merged == tries[-1]:
                raise
            refusal = refusal or failure
            continue
        if refusal is not None:
            on_merge(refusal)
        return found
    raise AssertionError("unreachable: there is always one to try")


def say_merged(renderer: str, refusal: BaseException) -> None:
    """Logs, once for each refusal, that messages were merged.

    Args:
        renderer: whose chat template refuses them.
        refusal: what it raised.
    """
    _say_once(renderer, describe_error(refusal))


@functools.lru_cache(maxsize=256)
def _say_once(renderer: str, refusal: str) -> None:
    _log.warning(
        "the chat template of %s refuses a conversation (%s): its system message is put before the "
        "first message of the user, and neighbouring messages of one role are joined",
        renderer,
        refusal,
    )


def merge_system_message(messages: tuple[Message, ...]) -> tuple[Message, ...] | None:
    r"""Puts system messages before the text of the first message of the user, and an empty line.

    That is how the authors of models without a system role (Gemma 2, early Mistral) advise to give
    instructions.

    Returns:
        The other messages, in order; None if there is no system message, or no message of a user.

    Example:
        >>> merge_system_message((Message("system", "Be brief."), Message("user", "Hello")))
        (Message(role='user', content='Be brief.\n\nHello', fields=''),)
    """
    said = [message.content for message in messages if message.role in _SYSTEM]
    others = [message for message in messages if message.role not in _SYSTEM]
    first = next((i for i, message in enumerate(others) if message.role == "user"), None)
    if not said or first is None:
        return None
    text = "\n\n".join(part for part in said if part)
    given = others[first].given
    content = given["content"]
    if isinstance(content, str) or content is None:
        others[first] = replace(
            others[first], content="\n\n".join(part for part in (text, content) if part)
        )
    else:
        parts = [{"type": "text", "text": f"{text}\n\n"}, *content]
        others[first] = Message.of({**given, "content": parts})
    return tuple(others)


def _mergings(messages: tuple[Message, ...]) -> list[tuple[Message, ...]]:
    """What to try: as it is, without a system message, and with neighbours of one role as one."""
    tries = [messages, _without_system(messages), _without_neighbours(messages)]
    tries.append(_without_neighbours(tries[1]))
    return [one for i, one in enumerate(tries) if one not in tries[:i]]


def _without_system(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """As `merge_system_message`; without a message of the user the system's becomes one."""
    merged = merge_system_message(messages)
    if merged is not None or not any(one.role in _SYSTEM for one in messages):
        return merged or messages
    said = _BETWEEN.join(one.content for one in messages if one.role in _SYSTEM and one.content)
    return (Message("user", said), *(one for one in messages if one.role not in _SYSTEM))


def _without_neighbours(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Neighbours of one role as one message; tools' answers stay, each belongs to a call."""
    found: list[Message] = []
    for one in messages:
        if found and found[-1].role == one.role and one.role != "tool":
            found[-1] = _join(found[-1], one)
        else:
            found.append(one)
    return tuple(found)


def _join(one: Message, other: Message) -> Message:
    fields = {**_fields(one), **_fields(other)}
    content = _BETWEEN.join(filter(None, (one.content, other.content)))
    return Message(one.role, content, json.dumps(fields) if fields else "")


def _fields(message: Message) -> dict[str, object]:
    """What a message has besides its text."""
    fields: dict[str, object] = json.loads(message.fields) if message.fields else {}
    fields.pop("content", None)
    return fields

"""merge_system_message(): for chat templates that refuse a system message."""

from dataclasses import replace

from rsalign.core.text.messages import Message

_SYSTEM = ("system", "developer")


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

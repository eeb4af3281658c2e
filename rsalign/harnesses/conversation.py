"""A conversation that a harness passes on as text, and that a reward still reads as messages."""

from collections.abc import Sequence

from rsalign.core.types import Message


class Conversation(str):
    """The text that a policy's chat template made of some messages, and these messages.

    A harness renders a conversation first and asks for an answer later, and keeps nothing but the
    text in between. A reward model has a chat template of its own, and needs the messages.

    Attributes:
        messages: what was rendered.
    """

    messages: tuple[Message, ...]

    def __new__(cls, text: str, messages: Sequence[Message]) -> "Conversation":
        """A text with its messages."""
        made = super().__new__(cls, text)
        made.messages = tuple(messages)
        return made

    def __getnewargs__(self) -> tuple[str, tuple[Message, ...]]:  # type: ignore[override]
        return str(self), self.messages  # for harnesses that keep prompts in a cache

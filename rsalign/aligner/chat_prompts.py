"""Encodes conversations by whatever policy has a chat template, with all options applied."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from rsalign.core.errors import ConfigError
from rsalign.core.protocols import Encoder
from rsalign.core.text.chat_options import ChatOptions
from rsalign.core.text.roles import merge_system_message
from rsalign.core.types import Message, Tokens

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ChatPrompts:
    """Turns conversations into token ids.

    Attributes:
        encoder: the policy.
        options: of the conversations.

    Example:
        >>> from rsalign.testing import ToyPolicy
        >>> ChatPrompts(ToyPolicy(), ChatOptions()).encode((Message("user", "1 2"),))
        (1, 2)
    """

    encoder: Encoder
    options: ChatOptions

    def encode(self, messages: tuple[Message, ...]) -> Tokens:
        """Token ids of a conversation.

        Raises:
            ConfigError: if the policy takes no options of this kind, or its template refuses the
                conversation, also with the system message merged (`ChatOptions.merge_system`).
        """
        return render_or_merge(self._encode, messages, self.options)

    def writes_date(self, messages: tuple[Message, ...]) -> bool:
        """Whether the template writes today's date into this conversation."""
        tokenization = getattr(self.encoder, "tokenization", None)
        ask = getattr(getattr(tokenization, "conversations", None), "writes_date", None)
        if ask is None:
            return False
        try:
            return bool(ask(messages, self.options.arguments, **self._how))
        except ConfigError:
            return False  # a refused conversation has no date, and fails with its own error

    @property
    def _how(self) -> dict[str, Any]:
        return {
            "chat_template": self.options.chat_template,
            "add_generation_prompt": self.options.add_generation_prompt,
        }

    def _encode(self, messages: tuple[Message, ...]) -> Tokens:
        arguments = self.options.arguments
        if not arguments:  # a policy of one's own may know no more
            return tuple(self.encoder.encode_chat(messages, **self._how))
        return tuple(self.encoder.encode_chat(messages, template_kwargs=arguments, **self._how))


def render_or_merge(
    render: Callable[[tuple[Message, ...]], T],
    messages: tuple[Message, ...],
    options: ChatOptions,
) -> T:
    """What `render` makes of a conversation.

    If it refuses the conversation, and the options say so, the system message is merged into the
    first message of the user (`ChatOptions.merge_system`).

    Raises:
        Exception: what `render` raises.
    """
    try:
        return render(messages)
    except Exception:  # an encoder of another's may raise anything
        merged = merge_system_message(messages) if options.merge_system else None
        if merged is None:
            raise
        return render(merged)

"""A Hugging Face chat template, given messages as vLLM (0.32) gives them to it.

For models that run outside of vLLM's reach, behind a server or in transformers. A policy whose
engine is at hand asks that engine's own renderer instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rsalign.messages import Message

_PROBE = "probe"


@dataclass(frozen=True, slots=True, eq=False)
class ChatTemplate:
    """The chat template of a tokenizer.

    Attributes:
        tokenizer: a Hugging Face tokenizer.
    """

    tokenizer: Any
    _takes_parts: dict[str, bool] = field(default_factory=dict, init=False, repr=False)

    def render(
        self,
        messages: Sequence[Message],
        *,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
    ) -> str:
        """A conversation as text.

        Args:
            messages: of the conversation.
            chat_template: instead of the tokenizer's.
            add_generation_prompt: open the assistant's turn.
            continue_final_message: leave the last message's turn open.

        Raises:
            Exception: what the template raises.
        """
        source = str(self.tokenizer.get_chat_template(chat_template))
        if source not in self._takes_parts:
            self._takes_parts[source] = self._goes_through_parts(source)
        as_parts = self._takes_parts[source]
        if "'developer'" not in source and '"developer"' not in source:
            messages = _without_developers(messages)
        return self._apply(
            [message.template_form(as_parts=as_parts) for message in messages],
            chat_template=source,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
        )

    def _goes_through_parts(self, source: str) -> bool:
        """Whether the template writes the texts of a list of parts, and not the list."""
        parts = [{"type": "text", "text": _PROBE}]
        try:
            shown = self._apply([{"role": "user", "content": parts}], chat_template=source)
        except Exception:  # whatever a template raises: it does not take parts
            return False
        return _PROBE in shown and repr(parts[0]) not in shown

    def _apply(self, forms: list[dict[str, Any]], **how: Any) -> str:
        return str(self.tokenizer.apply_chat_template(forms, tokenize=False, **how))


def _without_developers(messages: Sequence[Message]) -> Sequence[Message]:
    """As vLLM does for templates that do not know the role: one system message, at the beginning."""
    if all(message.role != "developer" for message in messages):
        return messages
    system, others = [], []
    for message in messages:
        of_system = message.role in ("developer", "system")
        (system if of_system else others).append(message)
    if len(system) == 1 and messages[0] is system[0]:
        given = system[0].given
        given.pop("tools", None)
        return [Message.of(given | {"role": "system"}), *others]
    merged = "\n\n".join(message.content for message in system if message.content)
    return [Message("system", merged), *others]

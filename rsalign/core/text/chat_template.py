"""A Hugging Face chat template, given messages as vLLM (0.32) gives them to it.

For models that run outside of vLLM's reach, behind a server or in transformers. A policy whose
engine is at hand asks that engine's own renderer instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import TemplateError

from rsalign.core.text.messages import Message

_PROBE = "probe"
# what a template raises that was written for text
_OF_TEMPLATES = (TemplateError, TypeError, ValueError, AttributeError, LookupError)


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
        forms = [message.template_form(as_parts=as_parts) for message in messages]
        has_developer = any(form["role"] == "developer" for form in forms)
        if has_developer and "'developer'" not in source and '"developer"' not in source:
            forms = _as_system(forms)
        return self._apply(
            forms,
            chat_template=source,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
        )

    def _goes_through_parts(self, source: str) -> bool:
        """Whether the template writes the texts of a list of parts, and not the list."""
        parts = [{"type": "text", "text": _PROBE}]
        try:
            shown = self._apply([{"role": "user", "content": parts}], chat_template=source)
        except _OF_TEMPLATES:
            return False
        # one that writes the list itself, as Python or as JSON, writes its keys, too
        return _PROBE in shown and not any(key in shown for key in ("'type'", '"type"'))

    def _apply(self, forms: list[dict[str, Any]], **how: Any) -> str:
        return str(self.tokenizer.apply_chat_template(forms, tokenize=False, **how))


def _as_system(forms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Developers' messages as the system's, all in one at the beginning, as vLLM does it."""
    forms = [
        {name: value for name, value in form.items() if name != "tools"} | {"role": "system"}
        if form["role"] == "developer"
        else form
        for form in forms
    ]
    others = [form for form in forms if form["role"] != "system"]
    if forms[1:] == others or forms == others:
        return forms
    texts = [_text(form["content"]) for form in forms if form["role"] == "system"]
    return [{"role": "system", "content": "\n\n".join(filter(None, texts))}, *others]


def _text(content: str | list[dict[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if "text" in part)

"""Rendering of messages with a Hugging Face chat template, as vLLM (0.32) does it.

It serves models behind a server or in transformers. A policy with its own engine uses the renderer
of that engine instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import TemplateError

from rsalign.core.text.messages import Message

_PROBE = "probe"
# errors of a template that expects text and is given parts
_OF_TEMPLATES = (TemplateError, TypeError, ValueError, AttributeError, LookupError)


@dataclass(frozen=True, slots=True, eq=False)
class ChatTemplate:
    """The chat template of a tokenizer.

    Attributes:
        tokenizer: a Hugging Face tokenizer.

    Example:
        >>> class Tokenizer:  # stands for one of Hugging Face
        ...     def get_chat_template(self, template=None):
        ...         return "a template"
        ...
        ...     def apply_chat_template(self, messages, **options):
        ...         return "".join(f"<{one['role']}>{one['content']}" for one in messages)
        >>> ChatTemplate(Tokenizer()).render([Message("user", "Hello")])
        '<user>Hello'
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
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """Renders a conversation as text.

        Args:
            messages: the conversation.
            chat_template: used instead of the tokenizer's.
            add_generation_prompt: whether to open the assistant's turn.
            continue_final_message: whether to leave the turn of the last message open.
            template_kwargs: further arguments of the template, such as ``tools`` or
                ``enable_thinking``; what it does not read has no effect.

        Raises:
            Exception: any error of the template.
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
            **(template_kwargs or {}),
        )

    def _goes_through_parts(self, source: str) -> bool:
        """Whether the template writes the texts in a list of parts, and not the list itself."""
        parts = [{"type": "text", "text": _PROBE}]
        try:
            shown = self._apply([{"role": "user", "content": parts}], chat_template=source)
        except _OF_TEMPLATES:
            return False
        # a template that writes the list itself, as Python or JSON, writes its keys, too
        return _PROBE in shown and not any(key in shown for key in ("'type'", '"type"'))

    def _apply(self, forms: list[dict[str, Any]], **how: Any) -> str:
        return str(self.tokenizer.apply_chat_template(forms, tokenize=False, **how))


def _as_system(forms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merges developer and system messages into one system message at the start, as vLLM does."""
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

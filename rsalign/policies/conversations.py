"""Renders conversations with a policy's chat template, and tells what the template writes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from rsalign.core.errors import ConfigError, RsalignError
from rsalign.core.foreign import describe_error
from rsalign.core.text.chat_options import Clock
from rsalign.core.text.chat_template import ChatTemplate
from rsalign.core.types import Message, Tokens
from rsalign.engines.vllm.text import NoChatTemplate, render_conversation

_PROBE = "probe"
_ALTERNATE = "alternate"
_DATE_FUNCTION = "strftime_now"
_TWO_DAYS = Clock("2001-02-03"), Clock("2004-05-06")


@dataclass(frozen=True)
class Conversations:
    """Renders conversations as one policy reads them.

    Attributes:
        tokenizer: a Hugging Face tokenizer, or one of vLLM's own.
        renderer: the engine's renderer; None: apply the chat template here.
        chat_template: replaces the tokenizer's chat template, unless a call passes another one.
    """

    tokenizer: Any
    renderer: Any = field(default=None, repr=False)
    chat_template: str | None = field(default=None, repr=False)

    def render(
        self,
        messages: tuple[Message, ...],
        *,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> str | Tokens:
        """The text of a conversation, or its token ids where the tokenizer renders no text.

        Raises:
            ConfigError: if there is no message or no chat template, or the template refuses the
                conversation.
        """
        if not messages:
            raise ConfigError("the conversation is empty: give at least one message")
        template = self.chat_template if chat_template is None else chat_template
        how = {
            "add_generation_prompt": add_generation_prompt,
            "continue_final_message": continue_final_message,
        }
        more = dict(template_kwargs or {})
        try:
            if self.renderer is not None:
                given = [message.given for message in messages]
                return render_conversation(
                    self.renderer, self.tokenizer, given, template, {**more, **how}
                )
            if template is None and not getattr(self.tokenizer, "chat_template", None):
                raise self._no_template()
            return self._template.render(
                messages, chat_template=template, template_kwargs=more, **how
            )
        except NoChatTemplate as missing:
            raise self._no_template() from missing
        except RsalignError:
            raise
        except Exception as refused:  # templates raise errors of any class
            raise _refusal(messages, refused) from refused

    def writes_date(
        self, messages: tuple[Message, ...], template_kwargs: Mapping[str, Any], **how: Any
    ) -> bool:
        """Whether the template writes today's date into this conversation.

        It is rendered as of two days: some templates write the date only if there are tools, or no
        ``date_string``. `how` are further arguments of `render`.
        """
        template = how.get("chat_template") or self.chat_template
        source = template or getattr(self.tokenizer, "chat_template", None) or ""
        if _DATE_FUNCTION not in str(source):
            return False
        one, other = (
            self.render(messages, template_kwargs={**template_kwargs, _DATE_FUNCTION: day}, **how)
            for day in _TWO_DAYS
        )
        return one != other

    def find_mark(self, text: str) -> str | None:
        """What in a plain text only a chat template writes: a sign that it was rendered already.

        It is the token that begins a text (BOS) at its beginning, a special token that the template
        writes between messages, or all that it writes before the first message.
        """
        begin = self.begin
        if begin and text.startswith(begin):
            return begin
        return next((mark for mark in self._marks if mark in text), None)

    @cached_property
    def _marks(self) -> tuple[str, ...]:
        """Texts that only the template writes."""
        user, assistant = Message("user", _PROBE), Message("assistant", _PROBE)
        try:
            rendered = self.render((user, assistant, user))
        except ConfigError:
            return ()
        if not isinstance(rendered, str):
            rendered = str(self.tokenizer.decode(list(rendered), skip_special_tokens=False))
        specials = [one for one in _special_texts(self.tokenizer) if one in rendered]
        before = rendered.partition(_PROBE)[0]
        begin = self.begin
        opening = before.removeprefix(begin).strip()
        # a word or two may be part of any text
        known = [opening] if not opening.replace(" ", "").isalnum() else []
        return tuple(mark for mark in (*specials, *known) if mark and mark != begin)

    def _no_template(self) -> ConfigError:
        return ConfigError(
            f"the tokenizer of {self.name} has no chat template: give chat_template=..., or use "
            "generate() with plain text; a model with Mistral's own tokenizer (tekken.json) needs "
            "engine_args={'tokenizer_mode': 'mistral'}"
        )

    @cached_property
    def begin(self) -> str:
        """The text of the token that begins a text (BOS); empty if there is none."""
        if hasattr(self.tokenizer, "bos_token"):
            return str(self.tokenizer.bos_token or "")
        token = getattr(self.tokenizer, "bos_token_id", None)  # vLLM's own tokenizers know the id
        if token is None:
            return ""
        return str(self.tokenizer.decode([token], skip_special_tokens=False))

    @property
    def name(self) -> str:
        """The tokenizer's name, or that of its class."""
        return str(getattr(self.tokenizer, "name_or_path", type(self.tokenizer).__name__))

    @cached_property
    def _template(self) -> ChatTemplate:
        return ChatTemplate(self.tokenizer)


def _special_texts(tokenizer: Any) -> list[str]:
    """The texts of a tokenizer's special tokens."""
    added = getattr(tokenizer, "added_tokens_decoder", None)
    if added is None:
        return [str(text) for text in tokenizer.all_special_tokens]
    return [str(token.content) for token in added.values() if token.special]


def _refusal(messages: tuple[Message, ...], failure: BaseException) -> ConfigError:
    """The error for a conversation that a template refuses: which roles it has, and what to do."""
    roles = [message.role for message in messages]
    said = describe_error(failure)
    help_ = "give messages that the model's template knows, or another chat_template"
    if _ALTERNATE in said and not _alternates(roles):
        help_ = "let user and assistant take turns, the user first"
    elif {"system", "developer"} & set(roles):
        help_ = (
            "if it is the system message, put it into the first message of the user, which "
            "ChatOptions(merge_system=True) does"
        )
    return ConfigError(
        f"the chat template refuses this conversation ({said}), whose roles are "
        f"{', '.join(roles[:20])}: {help_}"
    )


def _alternates(roles: list[str]) -> bool:
    turns = [role for role in roles if role not in ("system", "developer")]
    return all(role == ("user", "assistant")[i % 2] for i, role in enumerate(turns))

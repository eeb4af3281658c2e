"""Text and conversations to token ids and back, as vLLM does both."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from rsalign.core.errors import ConfigError
from rsalign.core.text.chat_template import ChatTemplate
from rsalign.core.text.detokenization import Detokenizer, Word, detokenizer, token_text
from rsalign.core.types import Message, Tokens
from rsalign.engines.vllm.text import NoChatTemplate, render_conversation

_MOST_BYTES = 4  # of a character, and so tokens that it may be split over
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Tokenization:
    """A model's tokenizer and the length of its context.

    Attributes:
        tokenizer: a Hugging Face tokenizer, or one of vLLM's own.
        max_model_len: greatest length of prompt and response together.
        renderer: vLLM's, of the engine that runs the model; None where there is none at hand, and
            the tokenizer's chat template is applied here.
        chat_template: instead of the tokenizer's, unless a call brings one.
    """

    tokenizer: Any
    max_model_len: int
    renderer: Any = field(default=None, repr=False)
    chat_template: str | None = field(default=None, repr=False)

    def encode(self, text: str) -> Tokens:
        """Token ids of a plain text prompt, special tokens added as the tokenizer does.

        Raises:
            ConfigError: if there is no text.
        """
        if not text:
            raise ConfigError("the prompt is empty: give some text")
        return tuple(self.tokenizer.encode(text))

    def encode_chat(
        self,
        messages: tuple[Message, ...],
        *,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
    ) -> Tokens:
        """Token ids of a conversation rendered by the chat template.

        Raises:
            ConfigError: if there is no message or no chat template, or vLLM refuses to render it.
        """
        rendered = self._rendered(messages, chat_template, add_generation_prompt)
        if isinstance(rendered, str):
            return tuple(self.tokenizer.encode(rendered, add_special_tokens=False))
        return rendered

    def render_chat(
        self,
        messages: tuple[Message, ...],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
    ) -> str:
        """A conversation as the text that the chat template makes of it.

        Raises:
            ConfigError: as `encode_chat`; and if the tokenizer makes tokens and no text.
        """
        rendered = self._rendered(messages, None, add_generation_prompt, continue_final_message)
        if isinstance(rendered, str):
            return rendered
        raise ConfigError(
            f"the tokenizer of {self._name} renders conversations as tokens and not as text: use "
            "the model's Hugging Face tokenizer (tokenizer_mode='hf')"
        )

    def text(self, tokens: Tokens) -> str:
        """Text of a response to an ordinary prompt; special tokens are left out."""
        return self.detokenizer(self._word.tokens).read(tokens)

    def detokenizer(self, prompt: Tokens) -> Detokenizer:
        """The text of one response to this prompt, as its tokens come."""
        return detokenizer(self.tokenizer, prompt)

    def token_text(self, token: int) -> str:
        """The text of one token within a text; see `Detokenizing`."""
        return token_text(self.tokenizer, token, self._word)

    def engine_stops(self, prefix: Tokens, stop: tuple[str, ...]) -> tuple[str, ...]:
        """The stop strings that vLLM can be trusted with for a request with this prefix.

        All of them, or none if the prefix ends within a character: vLLM (0.32) would then take the
        whole prefix for new text as soon as the character is complete, and stop at a stop string
        that has been in it all along. `Run.draft` looks for stop strings in the response itself.
        """
        if not stop:
            return ()
        ending = self.tokenizer.decode(list(prefix[-_MOST_BYTES:]), skip_special_tokens=True)
        return () if ending.endswith(_REPLACEMENT) else stop

    def check(self, prefix: Tokens) -> None:
        """Refuses what the engine could not work on.

        Raises:
            ConfigError: if there is no token, an id is out of the vocabulary, or the context has no
                room for one more token.
        """
        if not prefix:
            raise ConfigError("the prompt is empty: a policy needs at least one token to continue")
        if len(prefix) >= self.max_model_len:
            raise ConfigError(
                f"the prompt has {len(prefix)} tokens, but the context has {self.max_model_len} "
                "and needs room for at least one more: shorten the prompt, or raise "
                "max_model_len in engine_args"
            )
        if min(prefix) < 0 or max(prefix) >= len(self.tokenizer):
            wrong = next(token for token in prefix if not 0 <= token < len(self.tokenizer))
            raise ConfigError(
                f"token id {wrong} is not in the vocabulary of {len(self.tokenizer)} ids: was the "
                "prompt encoded by another tokenizer?"
            )

    def _rendered(
        self,
        messages: tuple[Message, ...],
        chat_template: str | None,
        add_generation_prompt: bool,
        continue_final_message: bool = False,
    ) -> str | Tokens:
        if not messages:
            raise ConfigError("the conversation is empty: give at least one message")
        template = self.chat_template if chat_template is None else chat_template
        how = {
            "add_generation_prompt": add_generation_prompt,
            "continue_final_message": continue_final_message,
        }
        if self.renderer is not None:
            return self._rendered_by_vllm(messages, template, how)
        if template is None and not getattr(self.tokenizer, "chat_template", None):
            raise self._no_template()
        return self._template.render(messages, chat_template=template, **how)

    def _rendered_by_vllm(
        self, messages: tuple[Message, ...], template: str | None, how: dict[str, bool]
    ) -> str | Tokens:
        given = [message.given for message in messages]
        try:
            return render_conversation(self.renderer, self.tokenizer, given, template, how)
        except NoChatTemplate as missing:
            raise self._no_template() from missing

    def _no_template(self) -> ConfigError:
        return ConfigError(
            f"the tokenizer of {self._name} has no chat template: give chat_template=..., or use "
            "generate() with plain text"
        )

    @property
    def _name(self) -> str:
        return str(getattr(self.tokenizer, "name_or_path", type(self.tokenizer).__name__))

    @cached_property
    def _template(self) -> ChatTemplate:
        return ChatTemplate(self.tokenizer)

    @cached_property
    def _word(self) -> Word:
        return Word.of(self.tokenizer)

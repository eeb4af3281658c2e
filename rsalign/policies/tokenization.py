"""Encodes text and conversations to token ids and decodes them, exactly as vLLM does."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from rsalign.core.errors import ConfigError
from rsalign.core.text.chat_template import ChatTemplate
from rsalign.core.text.detokenization import Detokenizer, Word, detokenizer, token_text
from rsalign.core.types import Message, Tokens
from rsalign.engines.vllm.text import NoChatTemplate, render_conversation

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Tokenization:
    """A model's tokenizer and context length.

    Attributes:
        tokenizer: a Hugging Face tokenizer, or one of vLLM's own.
        max_model_len: greatest number of tokens of prompt and response together.
        renderer: the engine's renderer of conversations; None: apply the chat template here.
        chat_template: replaces the tokenizer's chat template, unless a call passes another one.

    Example:
        >>> from transformers import AutoTokenizer
        >>> from rsalign.embedded import POLICY
        >>> tokenization = Tokenization(AutoTokenizer.from_pretrained(POLICY), max_model_len=512)
        >>> tokenization.text(tokenization.encode("Ann has 12 coins."))
        'Ann has 12 coins.'
    """

    tokenizer: Any
    max_model_len: int
    renderer: Any = field(default=None, repr=False)
    chat_template: str | None = field(default=None, repr=False)

    def encode(self, text: str) -> Tokens:
        """Token ids of a plain text prompt, with the special tokens that the tokenizer adds.

        Raises:
            ConfigError: if the text is empty.
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
            ConfigError: if there is no message or no chat template, or vLLM refuses to render.
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
        """The text that the chat template renders for a conversation.

        Raises:
            ConfigError: as `encode_chat`; and if the tokenizer renders token ids only.
        """
        rendered = self._rendered(messages, None, add_generation_prompt, continue_final_message)
        if isinstance(rendered, str):
            return rendered
        raise ConfigError(
            f"the tokenizer of {self._name} renders conversations as tokens and not as text: use "
            "the model's Hugging Face tokenizer (tokenizer_mode='hf')"
        )

    def text(self, tokens: Tokens) -> str:
        """The text of a response to an ordinary prompt, without special tokens."""
        return self.detokenizer(self._word.tokens).read(tokens)

    def detokenizer(self, prompt: Tokens) -> Detokenizer:
        """Decodes one response to this prompt incrementally."""
        return detokenizer(self.tokenizer, prompt)

    def token_text(self, token: int) -> str:
        """The text of one token within a text; see `Detokenizing`."""
        return token_text(self.tokenizer, token, self._word)

    def engine_stops(self, prefix: Tokens, stop: tuple[str, ...]) -> tuple[str, ...]:
        """The stop strings to send to vLLM with this prefix: all of them, or none.

        None if the prefix ends with bytes that are no text, as within a multi-byte character: vLLM
        would then treat the whole prefix as new text once they are, and stop at a stop string that
        the prefix contains. A tokenizer that falls back to bytes decodes an unbroken run of them as
        a whole. `Run.draft` looks for stop strings in the response in any case.
        """
        if not stop:
            return ()
        start = len(prefix)
        while start and _REPLACEMENT in self._decode(prefix[start - 1 : start]):
            start -= 1
        return () if _REPLACEMENT in self._decode(prefix[start:]) else stop

    def _decode(self, tokens: Tokens) -> str:
        known = [token for token in tokens if token < len(self.tokenizer)]
        return str(self.tokenizer.decode(known, skip_special_tokens=True))

    def check(self, prefix: Tokens) -> None:
        """Refuses a prefix that the engine could not continue.

        Raises:
            ConfigError: if it is empty, contains an id outside the vocabulary, or fills the whole
                context.
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

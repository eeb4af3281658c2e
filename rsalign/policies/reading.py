"""Reads and writes text by a policy's tokenizer and chat template: the same for all policies."""

from collections.abc import Mapping
from typing import Any

from rsalign.core.text.detokenization import Detokenizer
from rsalign.core.types import Message, Prompt, Tokens
from rsalign.policies.tokenization import Tokenization


class ReadsText:
    """Base class of policies with a `Tokenization`; it has all abilities that concern text."""

    __slots__ = ()

    @property
    def tokenization(self) -> Tokenization:
        """The model's tokenizer, chat template and reasoning parser; of the derived class."""
        raise NotImplementedError

    def text(self, tokens: Tokens) -> str:
        """The text of a response to an ordinary prompt, without special tokens."""
        return self.tokenization.text(tokens)

    def detokenizer(self, prompt: Tokens) -> Detokenizer:
        """Decodes a response to this prompt incrementally, exactly as vLLM does."""
        return self.tokenization.detokenizer(prompt)

    def token_text(self, token: int) -> str:
        """The text of one token, as the logits processors in vLLM's engine read it."""
        return self.tokenization.token_text(token)

    def encode(self, text: str) -> Tokens:
        """Token ids of a plain text prompt, with the special tokens that the tokenizer adds."""
        return self.tokenization.encode(text)

    def encode_chat(
        self,
        messages: tuple[Message, ...],
        *,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> Tokens:
        """Token ids of a conversation, by the chat template; see `Encoder`."""
        return self.tokenization.encode_chat(
            messages,
            chat_template=chat_template,
            add_generation_prompt=add_generation_prompt,
            template_kwargs=template_kwargs,
        )

    @property
    def divides(self) -> bool:
        """Whether the text of responses is divided into thought and answer; see `Dividing`."""
        return self.tokenization.divides

    def divide(
        self, prompt: Prompt, tokens: Tokens, text: str, *, complete: bool
    ) -> tuple[str, str | None]:
        """Divides the text of a response into thought and answer; see `Dividing`."""
        return self.tokenization.divide(prompt, tokens, text, complete=complete)

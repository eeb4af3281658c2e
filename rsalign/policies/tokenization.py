"""Text and conversations to token ids and back, by a Hugging Face tokenizer."""

from dataclasses import dataclass
from typing import Any

from rsalign.errors import ConfigError
from rsalign.types import Message, Tokens


@dataclass(frozen=True, slots=True)
class Tokenization:
    """A model's tokenizer and the length of its context.

    Attributes:
        tokenizer: a Hugging Face tokenizer.
        max_model_len: greatest length of prompt and response together.
    """

    tokenizer: Any
    max_model_len: int

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
            ConfigError: if there is no message or no chat template.
        """
        if not messages:
            raise ConfigError("the conversation is empty: give at least one message")
        if chat_template is None and not getattr(self.tokenizer, "chat_template", None):
            raise ConfigError(
                f"the tokenizer of {self.tokenizer.name_or_path} has no chat template: give "
                "chat_template=..., or use generate() with plain text"
            )
        text = self.tokenizer.apply_chat_template(
            [{"role": message.role, "content": message.content} for message in messages],
            tokenize=False,
            chat_template=chat_template,
            add_generation_prompt=add_generation_prompt,
        )
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, tokens: Tokens) -> str:
        """Text of a whole response; special tokens are left out."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

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

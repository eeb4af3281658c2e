"""Encodes text and conversations to token ids and decodes them, exactly as vLLM does."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from rsalign.core.errors import ConfigError
from rsalign.core.text.detokenization import Detokenizer, Word, detokenizer, token_text
from rsalign.core.text.reasoning import Division, Reasoning, has_thought
from rsalign.core.types import Message, Prompt, Tokens
from rsalign.engines.vllm.reasoning import TextDivider
from rsalign.policies.conversations import Conversations

_NEAR_END = 16
"""Tokens in which chat templates write the beginning of a thought, or an empty one."""
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Tokenization:
    """A model's tokenizer and context length.

    Attributes:
        tokenizer: a Hugging Face tokenizer, or one of vLLM's own.
        max_model_len: greatest number of tokens of prompt and response together.
        renderer: the engine's renderer of conversations; None: apply the chat template here.
        chat_template: replaces the tokenizer's chat template, unless a call passes another one.
        vocab_size: number of ids that the model has a probability for. It may be greater than the
            number that the tokenizer knows (Qwen, gpt-oss): the other ids may be drawn, too, and
            have no text, as in vLLM. None: not known (behind a server, which checks ids itself).
        reasoning: how the text of responses is divided into thought and answer; None: it is not.
        assumed: whether nobody has named the parser in `reasoning`, so that a response in which no
            thought is marked is all answer.

    Raises:
        ConfigError: if vLLM has no such reasoning parser, or it does not fit the tokenizer.

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
    vocab_size: int | None = None
    reasoning: Reasoning | None = None
    assumed: bool = False

    def __post_init__(self) -> None:
        _ = self._divider  # refused here, before any work

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
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> Tokens:
        """Token ids of a conversation rendered by the chat template.

        Raises:
            ConfigError: if there is no message or no chat template, or it refuses to render.
        """
        rendered = self.conversations.render(
            messages,
            chat_template=chat_template,
            add_generation_prompt=add_generation_prompt,
            template_kwargs=template_kwargs,
        )
        if isinstance(rendered, str):
            return tuple(self.tokenizer.encode(rendered, add_special_tokens=False))
        return rendered

    def render_chat(
        self,
        messages: tuple[Message, ...],
        *,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """The text that the chat template renders for a conversation.

        Raises:
            ConfigError: as `encode_chat`; and if the tokenizer renders token ids only.
        """
        rendered = self.conversations.render(
            messages,
            chat_template=chat_template,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            template_kwargs=template_kwargs,
        )
        if isinstance(rendered, str):
            return rendered
        raise ConfigError(
            f"the tokenizer of {self.conversations.name} renders conversations as tokens and not "
            "as text: use the model's Hugging Face tokenizer (tokenizer_mode='hf')"
        )

    @property
    def divides(self) -> bool:
        """Whether there is a reasoning parser."""
        return self.reasoning is not None and self.reasoning.divides

    def divide(
        self, prompt: Prompt, tokens: Tokens, text: str, *, complete: bool
    ) -> tuple[str, str | None]:
        """Divides the text of a response into thought and answer; see `Dividing`."""
        how = self.reasoning
        if how is None or self._divider is None:
            return text, None
        if self.assumed and not has_thought(self._end_of(prompt), text):
            return text, None
        thought, answer = self._divider.divide(prompt.tokens, prompt.chat.variables, tokens, text)
        whole = text
        if self._divider.reads_special:
            whole = "\n\n".join(part for part in (thought, answer) if part)
        division = Division(whole, thought, answer)
        return division.text(how, complete=complete), thought

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
        least, most = min(prefix), max(prefix)
        if least < 0 or (self.vocab_size is not None and most >= self.vocab_size):
            size = "" if self.vocab_size is None else f" of {self.vocab_size} ids"
            raise ConfigError(
                f"token id {least if least < 0 else most} is not in the vocabulary{size}: was the "
                "prompt encoded by another tokenizer?"
            )

    @cached_property
    def vocabulary(self) -> str:
        """Identifies the texts of all token ids and the end token; empty if they are not told."""
        if not hasattr(self.tokenizer, "get_vocab"):
            return ""
        ids = sorted(self.tokenizer.get_vocab().items())
        told = json.dumps([ids, self.tokenizer.eos_token_id])
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    @cached_property
    def conversations(self) -> Conversations:
        """Renders conversations."""
        return Conversations(self.tokenizer, self.renderer, self.chat_template)

    @cached_property
    def _divider(self) -> TextDivider | None:
        if self.reasoning is None or not self.divides:
            return None
        return TextDivider.of(self.reasoning.parser, self.tokenizer)

    def _end_of(self, prompt: Prompt) -> str:
        """The text of a prompt's last tokens, where a template begins or ends a thought."""
        return str(self.tokenizer.decode(list(prompt.tokens[-_NEAR_END:])))

    @cached_property
    def _word(self) -> Word:
        return Word.of(self.tokenizer)

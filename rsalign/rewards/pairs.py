"""Prompt and response as a pair of texts, for encoders that were trained without a chat template.

Reward models over DeBERTa, BERT, RoBERTa or ModernBERT read ``[CLS] prompt [SEP] response [SEP]``,
as their tokenizer writes a pair.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rsalign.core.fingerprint import fingerprint
from rsalign.core.foreign import errors_as
from rsalign.core.types import Prompt, Response, Tokens
from rsalign.rewards.rendering import Encoded, Rendering, check_length, unreadable_error
from rsalign.rewards.special_texts import SpecialTexts


@dataclass(frozen=True)
class PairRendering:
    """Renders a prompt and a response as a pair of texts.

    The prompt is `Prompt.text`. An unfinished response is not told from a finished one: the format
    has no open end.

    Attributes:
        tokenizer: the reward model's Hugging Face tokenizer.
        max_model_len: greatest number of tokens that the reward model accepts.

    Example:
        >>> tokenizer = AutoTokenizer.from_pretrained("org/deberta-rm")  # doctest: +SKIP
        >>> PairRendering(tokenizer, 512).encode(prompt, response).tokens  # doctest: +SKIP
        (1, 433, 333, 2, 1021, 2)
    """

    tokenizer: Any
    max_model_len: int
    _specials: SpecialTexts = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_specials", SpecialTexts(self.tokenizer))

    @property
    def fingerprint(self) -> str:
        """Identifies it in a journal by vocabulary and tokenization rules."""
        return f"pairs {fingerprint(self.tokenizer)}"

    @property
    def tells_texts_apart(self) -> bool:
        """Whether the model is told which token belongs to which text (BERT, but not RoBERTa)."""
        return 1 in (self.tokenizer("a", "b").get("token_type_ids") or ())

    def encode(self, prompt: Prompt, response: Response) -> Encoded:
        """The tokens that the reward model reads.

        Raises:
            RewardError: as `Rendering.encode`.
        """
        with errors_as(partial(unreadable_error, prompt, response)):
            texts = (prompt.text, response.text)
            is_special = any(map(self._specials.find, texts))
            tokenizer = self._specials.plain_tokenizer if is_special else self.tokenizer
            encoded = tokenizer(*texts)
        tokens = tuple(encoded["input_ids"])
        check_length(len(tokens), self.max_model_len, prompt, response)
        types = encoded.get("token_type_ids")
        return Encoded(tokens, types.index(1) if types and 1 in types else None)

    def tokens(self, prompt: Prompt, response: Response) -> Tokens:
        """The token ids alone; see `encode`."""
        return self.encode(prompt, response).tokens


def choose_rendering(
    tokenizer: Any, max_model_len: int, chat_template: str | None = None, suffix: Tokens = ()
) -> Rendering | PairRendering:
    """Returns how a model reads: by its chat template, or pairs of texts if it has none.

    Args:
        tokenizer: the reward model's Hugging Face tokenizer.
        max_model_len: greatest number of tokens that the reward model accepts.
        chat_template: used instead of the tokenizer's.
        suffix: as in `Rendering`.

    Raises:
        ConfigError: if there is no chat template, and the tokenizer's pairs have no separator: such
            a model is no encoder.
    """
    has_template = chat_template or getattr(tokenizer, "chat_template", None)
    writes_pairs = getattr(tokenizer, "cls_token", None) and getattr(tokenizer, "sep_token", None)
    if writes_pairs and not has_template:
        return PairRendering(tokenizer, max_model_len)
    return Rendering(tokenizer, max_model_len, chat_template, suffix)


def suffix_of(config: Any) -> Tokens:
    """Returns the tokens that a model reads after the conversation.

    Args:
        config: the model's Hugging Face configuration. InternLM2's reward models name the token at
            which they score a conversation, ``reward_token_id``.
    """
    token = getattr(config, "reward_token_id", None)
    return () if token is None else (int(token),)

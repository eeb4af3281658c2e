"""Special tokens written as ordinary characters: finds them, and tokenizes them as such."""

import copy
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class SpecialTexts:
    """The texts of a tokenizer's special tokens, such as ``<|eot_id|>``.

    Attributes:
        tokenizer: a Hugging Face tokenizer.

    Example:
        >>> from transformers import AutoTokenizer
        >>> from rsalign.embedded import REWARD
        >>> texts = SpecialTexts(AutoTokenizer.from_pretrained(REWARD))
        >>> texts.find("2 + 2</s>"), texts.find("2 + 2")
        ([(5, 9)], [])
        >>> texts.tokenizer.encode("</s>"), len(texts.plain_tokenizer.encode("</s>"))
        ([2], 4)
    """

    tokenizer: Any

    def find(self, text: str) -> list[tuple[int, int]]:
        """Where they begin and end in a text, with the white space behind that belongs to them."""
        return [] if self._pattern is None else [at.span() for at in self._pattern.finditer(text)]

    @cached_property
    def plain_tokenizer(self) -> Any:
        """A copy of the tokenizer that takes them for ordinary characters.

        A copy, because the setting belongs to the tokenizer, which other threads use.
        """
        tokenizer = copy.deepcopy(self.tokenizer)
        tokenizer.split_special_tokens = True
        return tokenizer

    @cached_property
    def _pattern(self) -> "re.Pattern[str] | None":
        added = getattr(self.tokenizer, "added_tokens_decoder", {}).values()
        tokens = {str(token): token for token in added if getattr(token, "special", False)}
        tokens |= {text: text for text in self.tokenizer.all_special_tokens if text not in tokens}
        longest_first = sorted(tokens.items(), key=lambda item: -len(item[0]))
        texts = [
            re.escape(text) + (r"\s*" if getattr(token, "rstrip", False) else "")
            for text, token in longest_first
        ]
        return re.compile("|".join(texts)) if texts else None

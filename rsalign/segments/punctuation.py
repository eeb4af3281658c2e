"""Segments that end with punctuation."""

from collections.abc import Mapping
from dataclasses import dataclass

from rsalign.core.checks import at_least, check_settings, setting_error
from rsalign.segments.fixed_size import MOST


@dataclass(frozen=True, slots=True)
class Punctuation:
    """A segment ends with a token that contains a mark, if the model was uncertain of that token.

    The second segmenter of CARDS' published code; its 1.0 nats and 4 tokens are the defaults.

    Attributes:
        marks: characters, each of which is a mark. What counts is the text of a token alone, so
            that a mark that the tokenizer splits into bytes is never seen.
        min_entropy: of the model's law of that token (full vocabulary, temperature 1), nats.
        min_tokens: fewest tokens of a segment that ends so, the mark included.
        max_tokens: a segment ends at this many tokens at the latest.
    """

    marks: str = ",.:;?!"
    min_entropy: float = 1.0
    min_tokens: int = 4
    max_tokens: int = 64

    def __post_init__(self) -> None:
        check_settings(
            self,
            marks=at_least(1, note="each character is a mark"),
            min_entropy=at_least(-MOST, MOST, note="0 takes every mark"),
            min_tokens=at_least(1),
            max_tokens=at_least(1, MOST),
        )
        if self.min_tokens > self.max_tokens:
            raise setting_error(
                self, "min_tokens", f"a whole number of at most max_tokens={self.max_tokens}"
            )

    @property
    def needs_entropy(self) -> bool:
        """Unless every mark counts."""
        return self.min_entropy > 0

    @property
    def engine_arguments(self) -> Mapping[str, int | float | str]:
        """For `rsalign.hooks`."""
        return {
            "rsalign_marks": self.marks,
            "rsalign_marks_min_entropy": self.min_entropy,
            "rsalign_marks_min_tokens": self.min_tokens,
        }

    def ends_before(self, num_drawn: int, entropy: float) -> bool:
        """Never; a mark or `max_tokens` ends it."""
        return False

    def ends_after(self, num_drawn: int, entropy: float, text: str) -> bool:
        """If it is long enough, the token has a mark and was uncertain."""
        return (
            num_drawn >= self.min_tokens
            and entropy >= self.min_entropy
            and any(mark in text for mark in self.marks)
        )

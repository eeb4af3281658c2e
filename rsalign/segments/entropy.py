"""Segments that end where the model becomes uncertain."""

from collections.abc import Mapping
from dataclasses import dataclass

from rsalign.core.checks import at_least, check_settings, setting_error
from rsalign.segments.fixed_size import MOST


@dataclass(frozen=True, slots=True)
class Entropy:
    """A segment ends before the first token whose law has at least this entropy.

    The uncertain token is not part of the segment: it opens the next one (CARDS, arXiv 2406.16306,
    section 3.2).

    Attributes:
        threshold: entropy of the model's next-token law (full vocabulary, temperature 1), nats.
        min_tokens: fewest tokens of a segment that ends so.
        max_tokens: a segment ends at this many tokens at the latest.
    """

    threshold: float
    min_tokens: int = 4
    max_tokens: int = 64

    def __post_init__(self) -> None:
        check_settings(
            self,
            threshold=at_least(-MOST, MOST, note="FixedSize has none"),
            min_tokens=at_least(1),
            max_tokens=at_least(1, MOST),
        )
        if self.min_tokens > self.max_tokens:
            raise setting_error(
                self, "min_tokens", f"a whole number of at most max_tokens={self.max_tokens}"
            )

    @property
    def engine_arguments(self) -> Mapping[str, int | float | str]:
        """For `rsalign.hooks`."""
        return {
            "rsalign_entropy_threshold": self.threshold,
            "rsalign_entropy_min_tokens": self.min_tokens,
        }

    def ends_before(self, num_drawn: int, entropy: float) -> bool:
        """If it is long enough and the next token is uncertain."""
        return num_drawn >= self.min_tokens and entropy >= self.threshold

    def ends_after(self, num_drawn: int, entropy: float, text: str) -> bool:
        """Never; `max_tokens` ends it."""
        return False

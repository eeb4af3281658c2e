"""Segmenters: rules for where a segment of a response ends (`rsalign.core.protocols.Boundary`).

Entropies are those of the model's next-token distribution (full vocabulary, temperature 1), nats.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rsalign.core.checks import at_least, check_settings, setting_error

MOST = (1 << 31) - 1
"""Greatest segment length in tokens, and greatest entropy, that an engine may be asked for."""


@dataclass(frozen=True, slots=True)
class FixedSize:
    """A segment ends after `n` tokens, or where the response ends.

    Attributes:
        n: tokens of a segment.

    Raises:
        ConfigError: if `n` is not a whole number of at least 1.

    Example:
        >>> FixedSize(16).max_tokens
        16
    """

    n: int

    def __post_init__(self) -> None:
        check_settings(self, n=at_least(1, MOST))

    @property
    def max_tokens(self) -> int:
        """`n`: the length is the whole rule."""
        return self.n

    @property
    def engine_arguments(self) -> Mapping[str, int | float | str]:
        """Empty: every engine can count tokens."""
        return {}

    def ends_before(self, num_drawn: int, entropy: float) -> bool:
        """False: only `max_tokens` ends the segment."""
        return False

    def ends_after(self, num_drawn: int, entropy: float, text: str) -> bool:
        """False: only `max_tokens` ends the segment."""
        return False


@dataclass(frozen=True, slots=True)
class Blocks:
    """A segment ends where the prefix cache can keep all of it, or where the response ends.

    An engine caches whole blocks of tokens, and computes at least the last token of a request
    again. A segment therefore ends where prompt and answer together have one token more than a
    multiple of `n`: the next drafts then compute one token again, and not half a block on average.
    Where a segment ends depends on lengths alone, so that laws are those of `FixedSize`, with a
    first segment of another length.

    Attributes:
        n: a multiple of the engine's block size: 32 on CPUs, 16 on GPUs (vLLM's ``block_size``).
        min_tokens: fewest tokens of a segment. A segment that would have fewer, as the first one
            may, ends at the end of the next block.

    Raises:
        ConfigError: if `n` is not a whole number of at least 2, or `min_tokens` not one from 1 to
            `n`.

    Example:
        >>> Blocks(32).begin_after(100).max_tokens  # 100 + 29 = 4 * 32 + 1
        29
    """

    n: int = 32
    min_tokens: int = 8

    def __post_init__(self) -> None:
        check_settings(self, n=at_least(2, MOST // 2), min_tokens=at_least(1))
        _require_room(self, self.min_tokens, self.n)

    @property
    def max_tokens(self) -> int:
        """Greatest length of a segment, in tokens."""
        return self.n + self.min_tokens - 1

    @property
    def engine_arguments(self) -> Mapping[str, int | float | str]:
        """Empty: every engine can count tokens."""
        return {}

    def begin_after(self, num_tokens: int) -> FixedSize:
        """The rule of a segment that begins after so many tokens of prompt and answer."""
        length = (1 - num_tokens) % self.n
        return FixedSize(length if length >= self.min_tokens else length + self.n)

    def ends_before(self, num_drawn: int, entropy: float) -> bool:
        """False: only lengths end the segment."""
        return False

    def ends_after(self, num_drawn: int, entropy: float, text: str) -> bool:
        """False: only lengths end the segment."""
        return False


@dataclass(frozen=True, slots=True)
class Entropy:
    """A segment ends before the first token whose distribution has at least this entropy.

    The uncertain token is the first token of the next segment (CARDS, arXiv 2406.16306, section
    3.2).

    Attributes:
        threshold: entropy, nats.
        min_tokens: fewest tokens of a segment that ends so.
        max_tokens: a segment ends at this many tokens at the latest.

    Raises:
        ConfigError: if a setting is out of its range, or `min_tokens` exceeds `max_tokens`.

    Example:
        >>> segmenter = Entropy(3.0, min_tokens=4, max_tokens=64)
        >>> segmenter.ends_before(4, 3.2), segmenter.ends_before(3, 3.2)
        (True, False)
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
        _require_room(self, self.min_tokens, self.max_tokens)

    @property
    def engine_arguments(self) -> Mapping[str, int | float | str]:
        """The rule as arguments of the engine's hook (`rsalign.hooks`)."""
        return {
            "rsalign_entropy_threshold": self.threshold,
            "rsalign_entropy_min_tokens": self.min_tokens,
        }

    def ends_before(self, num_drawn: int, entropy: float) -> bool:
        """Whether the segment is long enough and the next token is uncertain."""
        return num_drawn >= self.min_tokens and entropy >= self.threshold

    def ends_after(self, num_drawn: int, entropy: float, text: str) -> bool:
        """False: the segment ends before an uncertain token, or at `max_tokens`."""
        return False


@dataclass(frozen=True, slots=True)
class Punctuation:
    """A segment ends with a token that contains a mark, if the model was uncertain of that token.

    This is the second segmenter of CARDS' published code; its 1.0 nats and 4 tokens are the
    defaults.

    Attributes:
        marks: characters, each of which is a mark. Only the text of the one token is searched; a
            mark that the tokenizer splits into bytes is never found.
        min_entropy: of the token's distribution, nats.
        min_tokens: fewest tokens of a segment that ends so, the mark included.
        max_tokens: a segment ends at this many tokens at the latest.

    Raises:
        ConfigError: if a setting is out of its range, or `min_tokens` exceeds `max_tokens`.

    Example:
        >>> Punctuation(".", min_entropy=0.0, min_tokens=2).ends_after(2, 0.1, " end.")
        True
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
        _require_room(self, self.min_tokens, self.max_tokens)

    @property
    def needs_entropy(self) -> bool:
        """Whether the rule depends on entropies: not if every mark counts."""
        return self.min_entropy > 0

    @property
    def engine_arguments(self) -> Mapping[str, int | float | str]:
        """The rule as arguments of the engine's hook (`rsalign.hooks`)."""
        return {
            "rsalign_marks": self.marks,
            "rsalign_marks_min_entropy": self.min_entropy,
            "rsalign_marks_min_tokens": self.min_tokens,
        }

    def ends_before(self, num_drawn: int, entropy: float) -> bool:
        """False: the segment ends with a mark, or at `max_tokens`."""
        return False

    def ends_after(self, num_drawn: int, entropy: float, text: str) -> bool:
        """Whether the segment is long enough, the token has a mark and was uncertain."""
        return (
            num_drawn >= self.min_tokens
            and entropy >= self.min_entropy
            and any(mark in text for mark in self.marks)
        )


def _require_room(segmenter: object, min_tokens: int, max_tokens: int) -> None:
    if min_tokens > max_tokens:
        raise setting_error(
            segmenter, "min_tokens", f"a whole number of at most max_tokens={max_tokens}"
        )


SEGMENTERS = {
    "fixed_size": FixedSize,
    "blocks": Blocks,
    "entropy": Entropy,
    "punctuation": Punctuation,
}
"""Segmenters by their names in settings; any other class is named as ``module:Class``."""

"""Segmenters: rules for where a segment of a response ends (`rsalign.core.protocols.Boundary`).

Entropies are those of the model's next-token distribution (full vocabulary, temperature 1), nats.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rsalign.core.checks import at_least, check_settings, setting_error
from rsalign.core.errors import ConfigError

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


@dataclass(frozen=True, slots=True)
class LowConfidence:
    """A segment ends after the token at which the policy's mean confidence falls below a threshold.

    The confidence of a token is minus the entropy of its distribution, nats. Its mean over the last
    tokens is an exponential one: over all tokens of the segment up to the first `window`, and from
    then on it moves by 1 / `window` of the difference to each new token. The rule thus keeps one
    number for each request (DeepConf, Fu et al. 2025, arXiv:2508.15260, has a plain mean over a
    sliding window).

    The rule has a memory of one segment, so that a policy is given what `begin_after` returns;
    `Run.draft` does that.

    Attributes:
        window: tokens that the mean is over; no segment ends before it has so many.
        below: threshold of the mean confidence, nats, at most 0.
        max_tokens: a segment ends at this many tokens at the latest.

    Raises:
        ConfigError: if a setting is out of its range, or `window` exceeds `max_tokens`.

    Example:
        >>> rule = LowConfidence(window=2, below=-1.0).begin_after(7)
        >>> rule.ends_after(1, 3.0, "a"), rule.ends_after(2, 0.5, "b")  # the mean is -1.75
        (False, True)
    """

    window: int = 32
    below: float = -1.0
    max_tokens: int = MOST

    def __post_init__(self) -> None:
        check_settings(
            self,
            window=at_least(1, MOST),
            below=at_least(-MOST, 0.0, note="it is minus an entropy"),
            max_tokens=at_least(1, MOST),
        )
        if self.window > self.max_tokens:
            raise setting_error(
                self, "window", f"a whole number of at most max_tokens={self.max_tokens}"
            )

    @property
    def engine_arguments(self) -> Mapping[str, int | float | str]:
        """The rule as arguments of the engine's hook (`rsalign.hooks`)."""
        return {
            "rsalign_confidence_window": self.window,
            "rsalign_confidence_below": self.below,
        }

    def begin_after(self, num_tokens: int) -> "ConfidenceWatch":
        """The rule of one segment, with nothing in its memory."""
        return ConfidenceWatch(self)

    def ends_before(self, num_drawn: int, entropy: float) -> bool:
        """False: the segment ends after a token, or at `max_tokens`."""
        return False

    def ends_after(self, num_drawn: int, entropy: float, text: str) -> bool:
        """Raises ConfigError: the entropies of the tokens before are not known here."""
        raise ConfigError(
            f"{self!r} remembers the tokens of one segment: give a policy "
            "boundary.begin_after(number of tokens before it)"
        )


@dataclass(slots=True)
class ConfidenceWatch:
    """`LowConfidence` for one segment: asked about each of its tokens once, in their order.

    Attributes:
        rule: what it follows.
        mean: mean entropy so far, nats.
    """

    rule: LowConfidence
    mean: float = 0.0

    @property
    def max_tokens(self) -> int:
        """Greatest length of the segment, in tokens."""
        return self.rule.max_tokens

    @property
    def engine_arguments(self) -> Mapping[str, int | float | str]:
        """Those of the rule."""
        return self.rule.engine_arguments

    def ends_before(self, num_drawn: int, entropy: float) -> bool:
        """False, as the rule."""
        return False

    def ends_after(self, num_drawn: int, entropy: float, text: str) -> bool:
        """Takes the token into the mean, and says whether that is too little confidence."""
        self.mean = running_mean(self.mean, entropy, num_drawn, self.rule.window)
        return num_drawn >= self.rule.window and -self.mean < self.rule.below


def running_mean(mean: float, value: float, num: int, window: int) -> float:
    """The mean after one more value: a plain one up to `window` values, then exponential.

    Args:
        mean: of the values before.
        value: the new one.
        num: number of values with it, at least 1.
        window: see `LowConfidence`.

    Example:
        >>> running_mean(2.0, 4.0, 2, window=8), running_mean(2.0, 4.0, 9, window=8)
        (3.0, 2.25)
    """
    return mean + (value - mean) / min(num, window)


SEGMENTERS = {
    "fixed_size": FixedSize,
    "blocks": Blocks,
    "entropy": Entropy,
    "punctuation": Punctuation,
    "low_confidence": LowConfidence,
}
"""Segmenters by their names in settings; any other class is named as ``module:Class``."""

"""The cut laws that ship with rsalign; H(y) is the sum of the weights h over all positions i < |y|.

`UniformCuts`:
Law      q(i | y) = 1 / |y| for 0 <= i < |y|, EOS counted; H(y) = |y|.
Paper    QAlign, Faria et al. 2025, arXiv:2504.03790.

`BlockCuts`, where the engine's prefix cache has whole blocks:
Law      uniform on 0 and on the positions i < |y| before which prompt and response together have
         one token more than a multiple of `size`; H(y) is the number of these positions.
Exact    because the first position of the block that a response ends in counts even if the block
         is not full: it can be cut there, whichever of the two responses of a move is longer.

`SegmentCuts`, where a segmenter begins a new segment:
Law      uniform on 0 and on the positions i < |y| at which the segmenter, applied from the start of
         y, ends a segment; H(y) is the number of these positions.
Paper    segments of CARDS, Li et al. 2024, arXiv:2406.16306, as cuts of QAlign.

`EntropyCuts`, where the model was uncertain, so that a move changes a decision:
Law      q(i | y) proportional to h(y_<i) = entropy(y_<i)^power + floor, with the entropy of the
         distribution that token i was drawn from.
Paper    the signal of CARDS, as a cut law for chains.
Departs  from entropy-weighted cuts with the plain length ratio |y| / |y'|, which are not exact.

`FixedCuts`, a distribution on positions that does not depend on the response:
Law      q(i) proportional to decay^i on 0 <= i < max_tokens. A cut behind the end of the response
         does nothing. Nothing is corrected for, because q is the same for both responses of a move.
Paper    the padded state of power sampling with a fixed horizon, Theodoropoulos et al. 2026.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from rsalign.chains.cuts.protocol import Position
from rsalign.core.checks import above, at_least, check_settings
from rsalign.core.protocols import SEGMENTER, Boundary
from rsalign.core.segment_ends import place_boundary


@dataclass(frozen=True, slots=True, kw_only=True)
class UniformCuts:
    """Cuts at every token with the same probability.

    Example:
        >>> from rsalign import QAlign
        >>> QAlign(steps=8, cuts=UniformCuts()) == QAlign(steps=8)
        True
    """

    needs_entropy: ClassVar[bool] = False
    fixed: ClassVar[bool] = False

    def weights(self, positions: Iterator[Position]) -> Iterator[float]:
        """1 for each position."""
        for _ in positions:
            yield 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCuts:
    """Cuts at position 0, and one token behind the end of each KV block of the prefix cache.

    An engine computes at least the last token of a prefix, whatever its cache holds. For a prefix
    that ends with a block vLLM computes that whole block again; for one with a token more it
    computes just that token.

    Attributes:
        size: tokens in a block; vLLM's `block_size`, which rsalign sets to 32 on CPU.

    Raises:
        ConfigError: if `size` is not at least 1.

    Example:
        >>> from rsalign import QAlign
        >>> strategy = QAlign(steps=8, cuts=BlockCuts(size=16))
    """

    size: int = 32

    needs_entropy: ClassVar[bool] = False
    fixed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_settings(self, size=at_least(1))

    def weights(self, positions: Iterator[Position]) -> Iterator[float]:
        """1 at position 0 and one token behind the end of a block, 0 elsewhere."""
        for position in positions:
            yield float(position.index == 0 or (position.num_before - 1) % self.size == 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentCuts:
    """Cuts at the starts of segments.

    Attributes:
        segmenter: where segments end, such as ``Entropy(1.0)`` or ``Punctuation(".")``.

    Raises:
        ConfigError: if `segmenter` is not one.

    Example:
        >>> from rsalign import FixedSize, QAlign
        >>> strategy = QAlign(steps=8, cuts=SegmentCuts(segmenter=FixedSize(16)))
    """

    segmenter: Boundary

    fixed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_settings(self, segmenter=SEGMENTER)

    @property
    def needs_entropy(self) -> bool:
        """Whether the segmenter is more than a size."""
        return bool(self.segmenter.engine_arguments)

    def weights(self, positions: Iterator[Position]) -> Iterator[float]:
        """1 at the start of a segment, 0 elsewhere."""
        drawn, entropy_before, rule = 0, 0.0, self.segmenter
        for position in positions:
            entropy = position.entropy or 0.0
            starts = (
                position.index == 0
                or drawn == rule.max_tokens
                or rule.ends_after(drawn, entropy_before, position.text)
                or rule.ends_before(drawn, entropy)
            )
            if starts:
                rule = place_boundary(self.segmenter, position.num_before) or rule
            drawn = 1 if starts else drawn + 1
            entropy_before = entropy
            yield float(starts)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntropyCuts:
    """Cuts in proportion to a power of the entropy, plus a constant.

    The entropies are those that the engine reported when it drew the tokens. They are never
    computed again, so that an engine whose rounding depends on the batch changes nothing.

    Attributes:
        power: exponent of the entropy. 0 is uniform; large ones, up to 200, cut at the most
            uncertain token.
        floor: is added to every weight, nats^power, above 0: certain tokens can be cut at too.

    Raises:
        ConfigError: if a setting is out of its range.

    Example:
        >>> from rsalign import QAlign
        >>> strategy = QAlign(steps=8, cuts=EntropyCuts(power=2.0))
    """

    power: float = 1.0
    floor: float = 0.01

    needs_entropy: ClassVar[bool] = True
    fixed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        # greater ones overflow: an entropy is at most ln(vocabulary), about 13 nats
        check_settings(self, power=at_least(0.0, 200.0), floor=above(0.0, 1e200))

    def weights(self, positions: Iterator[Position]) -> Iterator[float]:
        """Entropy^power + floor for each position."""
        for position in positions:
            assert position.entropy is not None  # it was asked for
            yield max(position.entropy, 0.0) ** self.power + self.floor


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedCuts:
    """Cuts from a geometric distribution on all positions that a response may have.

    Attributes:
        decay: ratio of the weights of neighbouring positions, above 0 and at most 1. 1 is uniform
            on all `max_tokens` positions, of which short responses use few.

    Raises:
        ConfigError: if `decay` is out of its range.

    Example:
        >>> from rsalign import QAlign
        >>> strategy = QAlign(steps=8, cuts=FixedCuts(decay=0.9))
    """

    decay: float = 1.0

    needs_entropy: ClassVar[bool] = False
    fixed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_settings(self, decay=above(0.0, 1.0))

    def weights(self, positions: Iterator[Position]) -> Iterator[float]:
        """decay^i for position i."""
        for position in positions:
            yield self.decay**position.index

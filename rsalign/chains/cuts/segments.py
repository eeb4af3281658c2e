"""SegmentCuts: cuts where a segmenter begins a new segment.

Law      uniform on the positions i < |y| at which the segmenter, applied from the start of y, ends
         a segment, and on 0; H(y) is their number.
Paper    segments of CARDS, Li et al. 2024, arXiv:2406.16306, as cuts of QAlign, arXiv:2504.03790.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from rsalign.chains.cuts.protocol import Position
from rsalign.core.checks import check_settings
from rsalign.core.protocols import SEGMENTER, Boundary


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentCuts:
    """The starts of segments.

    Attributes:
        segmenter: where segments end, such as ``Entropy(1.0)`` or ``Punctuation(".")``.

    Raises:
        ConfigError: if `segmenter` is not one.
    """

    segmenter: Boundary

    fixed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_settings(self, segmenter=SEGMENTER)

    @property
    def needs_entropy(self) -> bool:
        """Unless the segmenter is a mere size."""
        return bool(self.segmenter.engine_arguments)

    def weights(self, positions: Iterator[Position]) -> Iterator[float]:
        """1 at the start of a segment, 0 elsewhere."""
        drawn, entropy_before = 0, 0.0
        for position in positions:
            entropy = position.entropy or 0.0
            starts = (
                position.index == 0
                or drawn == self.segmenter.max_tokens
                or self.segmenter.ends_after(drawn, entropy_before, position.text)
                or self.segmenter.ends_before(drawn, entropy)
            )
            drawn = 1 if starts else drawn + 1
            entropy_before = entropy
            yield float(starts)

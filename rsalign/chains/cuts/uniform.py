"""UniformCuts: every token is as likely to be the first that is drawn anew.

Law      q(i | y) = 1 / |y| for 0 <= i < |y|, EOS counted; H(y) = |y|.
Paper    QAlign, Faria et al. 2025, arXiv:2504.03790.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from rsalign.chains.cuts.protocol import Position


@dataclass(frozen=True, slots=True, kw_only=True)
class UniformCuts:
    """Every position alike."""

    needs_entropy: ClassVar[bool] = False
    fixed: ClassVar[bool] = False

    def weights(self, positions: Iterator[Position]) -> Iterator[float]:
        """1 each."""
        for _ in positions:
            yield 1.0

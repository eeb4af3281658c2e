"""FixedCuts: a law on positions that was settled in advance, whatever the response.

Law      q(i) proportional to decay^i on 0 <= i < max_tokens; a cut behind the response's end does
         nothing. The law does not depend on the response, so nothing is corrected for.
Paper    the padded state of power sampling with a fixed horizon, Theodoropoulos et al. 2026.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from rsalign.chains.cuts.protocol import Position
from rsalign.core.checks import above, check_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedCuts:
    """Geometric on all positions that a response may have.

    Attributes:
        decay: ratio of the weights of neighbouring positions, above 0 and at most 1; 1 is uniform
            on all `max_tokens` of them, of which short responses use few.

    Raises:
        ConfigError: if `decay` is out of its range.
    """

    decay: float = 1.0

    needs_entropy: ClassVar[bool] = False
    fixed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_settings(self, decay=above(0.0, 1.0))

    def weights(self, positions: Iterator[Position]) -> Iterator[float]:
        """decay^i."""
        for position in positions:
            yield self.decay**position.index

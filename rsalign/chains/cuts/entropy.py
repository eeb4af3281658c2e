"""EntropyCuts: cuts where the model was uncertain, so that a move changes a decision.

Law      q(i | y) proportional to h(y_<i) = entropy(y_<i)^power + floor, with the entropy of the law
         that token i was drawn from; H(y) = sum over i < |y| of h(y_<i).
Paper    the signal of CARDS, Li et al. 2024, arXiv:2406.16306; a cut law for chains here.
Departs  from entropy-weighted cuts with the plain length ratio |y| / |y'|, which are not exact.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from rsalign.chains.cuts.protocol import Position
from rsalign.core.checks import above, at_least, check_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class EntropyCuts:
    """In proportion to a power of the entropy, plus a constant.

    Entropies are those that the engine told when it drew the tokens; they are never computed
    again, so that an engine which rounds differently from batch to batch changes nothing.

    Attributes:
        power: 0 is uniform; large ones, up to 200, cut at the most uncertain token.
        floor: of every weight, nats^power, above 0: certain tokens can be cut at too.

    Raises:
        ConfigError: if a setting is out of its range.
    """

    power: float = 1.0
    floor: float = 0.01

    needs_entropy: ClassVar[bool] = True
    fixed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        # greater ones leave the floats: an entropy is at most ln(vocabulary), about 13 nats
        check_settings(self, power=at_least(0.0, 200.0), floor=above(0.0, 1e200))

    def weights(self, positions: Iterator[Position]) -> Iterator[float]:
        """Entropy^power + floor."""
        for position in positions:
            assert position.entropy is not None  # it was asked for
            yield max(position.entropy, 0.0) ** self.power + self.floor

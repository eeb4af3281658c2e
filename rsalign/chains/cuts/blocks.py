"""BlockCuts: cuts where the engine's prefix cache has whole blocks.

Law      uniform on 0 and on the positions i < |y| before which prompt and response together have
         one token more than a multiple of `size`; H(y) is their number.
Paper    that the number is rounded *up* is what makes it exact: the block that a response ends in
         can be cut at its start, whichever of the two responses is longer.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from rsalign.chains.cuts.protocol import Position
from rsalign.core.checks import at_least, check_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCuts:
    """Position 0, and every position one token behind the end of a block of the cache.

    An engine computes at least the last token of a prefix, whatever its cache has: of a prefix that
    ends with a block vLLM computes that whole block again, of one with a token more just the token.

    Attributes:
        size: tokens in a block; vLLM's `block_size`, which rsalign sets to 32 on CPU.

    Raises:
        ConfigError: if `size` is not at least 1.
    """

    size: int = 32

    needs_entropy: ClassVar[bool] = False
    fixed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_settings(self, size=at_least(1))

    def weights(self, positions: Iterator[Position]) -> Iterator[float]:
        """1 one token behind the end of a block, 0 elsewhere."""
        for position in positions:
            yield float(position.index == 0 or (position.num_before - 1) % self.size == 0)

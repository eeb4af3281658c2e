"""Segments of a fixed number of tokens."""

from collections.abc import Mapping
from dataclasses import dataclass

from rsalign.core.checks import at_least, check_settings

MOST = (1 << 31) - 1
"""Greatest length of a segment, and greatest entropy, that an engine may be asked for."""


@dataclass(frozen=True, slots=True)
class FixedSize:
    """A segment ends after `n` tokens, or where the response ends."""

    n: int

    def __post_init__(self) -> None:
        check_settings(self, n=at_least(1, MOST))

    @property
    def max_tokens(self) -> int:
        """`n`: this is all the rule there is."""
        return self.n

    @property
    def engine_arguments(self) -> Mapping[str, int | float | str]:
        """None: every engine can count."""
        return {}

    def ends_before(self, num_drawn: int, entropy: float) -> bool:
        """Never; `max_tokens` ends it."""
        return False

    def ends_after(self, num_drawn: int, entropy: float, text: str) -> bool:
        """Never; `max_tokens` ends it."""
        return False

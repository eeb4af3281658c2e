"""Tokens that were drawn past a boundary: where they are cut, and that they are not lost.

A policy that cannot stop where a rule says may draw on and cut afterwards, if the rule looks at the
tokens alone. What lies beyond the cut is pi's own continuation of the segment. Given the segment,
it is independent of the segment's reward and of all that decided whether the segment was taken, and
so it may serve, once, as the next draft: the law is that of a fresh one (`Run.draft`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rsalign.core.protocols import Boundary
from rsalign.core.types import Tokens


def needs_entropy(boundary: Boundary) -> bool:
    """Whether the rule looks at entropies; a rule for the engine that looks at none says so."""
    return bool(getattr(boundary, "needs_entropy", boundary.engine_arguments))


def find_segment_end(
    tokens: Tokens, boundary: Boundary, text: Callable[[Tokens], str]
) -> int | None:
    """How many of these tokens a segment has, by a rule that looks at the tokens alone.

    Args:
        tokens: drawn one after another, from the segment's first.
        boundary: the rule; `needs_entropy` is false.
        text: of one token, given as a tuple of one (see
        `rsalign.core.text.response_text.token_text`).

    Returns:
        At least 1; None if the segment goes on after all of them.
    """
    for length, token in enumerate(tokens, 1):
        if (
            length == boundary.max_tokens
            or boundary.ends_after(length, 0.0, text((token,)))
            or boundary.ends_before(length, 0.0)
        ):
            return length
    return None


@dataclass(frozen=True, slots=True)
class RemainingBoundary:
    """What is left of a rule for a segment that has some tokens already.

    Attributes:
        boundary: the rule; `needs_entropy` is false.
        num_drawn: the tokens it has; the rule has let them pass.
    """

    boundary: Boundary
    num_drawn: int

    @property
    def max_tokens(self) -> int:
        """Those that are left."""
        return self.boundary.max_tokens - self.num_drawn

    @property
    def engine_arguments(self) -> Mapping[str, int | float | str]:
        """Those of the rule, counted from here."""
        return {
            name: max(1, value - self.num_drawn)
            if name.endswith("_min_tokens") and isinstance(value, int)
            else value
            for name, value in self.boundary.engine_arguments.items()
        }

    @property
    def needs_entropy(self) -> bool:
        """Never."""
        return False

    def ends_before(self, num_drawn: int, entropy: float) -> bool:
        """As the rule says, counted from here."""
        return self.boundary.ends_before(self.num_drawn + num_drawn, entropy)

    def ends_after(self, num_drawn: int, entropy: float, text: str) -> bool:
        """As the rule says, counted from here."""
        return self.boundary.ends_after(self.num_drawn + num_drawn, entropy, text)

"""Tokens drawn past a segment boundary: where to cut them, and how to use them again.

A policy that cannot stop at a boundary may draw past it and cut afterwards, provided that the
boundary rule looks only at the tokens. The tokens beyond the cut are a continuation of the segment
drawn from pi. Given the segment, they are independent of its reward and of the decision to accept
it. They may therefore serve once as the beginning of the next draft, which then has the same
distribution as a fresh one (`Run.draft`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rsalign.core.protocols import Boundary
from rsalign.core.types import Tokens


def needs_entropy(boundary: Boundary) -> bool:
    """Whether a boundary rule reads entropies; a rule for the engine does by default."""
    return bool(getattr(boundary, "needs_entropy", boundary.engine_arguments))


def find_segment_end(
    tokens: Tokens, boundary: Boundary, text: Callable[[Tokens], str]
) -> int | None:
    """Returns the length of a segment according to a rule that looks only at the tokens.

    Args:
        tokens: tokens in the order in which they were drawn, from the first of the segment.
        boundary: the rule; it must not read entropies (`needs_entropy`).
        text: returns the text of one token, given as a tuple with one element
            (`rsalign.core.text.response_text.token_text`).

    Returns:
        The number of tokens, at least 1; None if the segment continues after all of them.

    Example:
        >>> from rsalign import FixedSize
        >>> find_segment_end((5, 6, 7), FixedSize(2), str)
        2
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
    """A boundary rule for the rest of a segment whose first tokens were drawn already.

    Attributes:
        boundary: the rule; it must not read entropies (`needs_entropy`).
        num_drawn: number of tokens that the segment has already.

    Example:
        >>> from rsalign import FixedSize
        >>> RemainingBoundary(FixedSize(8), num_drawn=3).max_tokens
        5
    """

    boundary: Boundary
    num_drawn: int

    @property
    def max_tokens(self) -> int:
        """The number of tokens that the segment may still get."""
        return self.boundary.max_tokens - self.num_drawn

    @property
    def engine_arguments(self) -> Mapping[str, int | float | str]:
        """The engine arguments of the rule, with least lengths counted from here."""
        return {
            name: max(1, value - self.num_drawn)
            if name.endswith("_min_tokens") and isinstance(value, int)
            else value
            for name, value in self.boundary.engine_arguments.items()
        }

    @property
    def needs_entropy(self) -> bool:
        """Always False."""
        return False

    def ends_before(self, num_drawn: int, entropy: float) -> bool:
        """Asks the rule about the next token, counted from the segment's first."""
        return self.boundary.ends_before(self.num_drawn + num_drawn, entropy)

    def ends_after(self, num_drawn: int, entropy: float, text: str) -> bool:
        """Asks the rule about the drawn token, counted from the segment's first."""
        return self.boundary.ends_after(self.num_drawn + num_drawn, entropy, text)

"""What hooks tell of a request (`rsalign.engines.reports`), and what a segment makes of it."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from rsalign.core.errors import PolicyError
from rsalign.core.types import Certainty, Segment
from rsalign.engines.reports import Reading

if TYPE_CHECKING:
    from torch import Tensor

_BOUNDARY = "boundary_entropy"
_ENTROPIES = "entropies"
_SELF_CERTAINTIES = "self_certainties"


def boundary_reading(memory: "Tensor", num_drawn: int) -> Reading:
    """Of the segment end.

    Args:
        memory: the last two entropies, by the parity of the number of tokens drawn, ``(2,)``.
        num_drawn: how many come before the token whose entropy is told.
    """
    return {_BOUNDARY: [float(memory[num_drawn % 2])]}


def statistics_reading(statistics: "Tensor") -> Reading:
    """Of the token statistics, ``(tokens, 2)``."""
    entropies, self_certainties = statistics.T.tolist()
    return {_ENTROPIES: entropies, _SELF_CERTAINTIES: self_certainties}


def with_boundary_entropy(segment: Segment, reading: Reading | None) -> Segment:
    """A segment that an entropy ended, with that entropy, if it is known."""
    (entropy,) = (reading or {}).get(_BOUNDARY, [None])
    return replace(segment, boundary_entropy=entropy)


def with_certainty(segment: Segment, reading: Reading | None, *, ended: bool) -> Segment:
    """A segment with the certainty of its tokens.

    Args:
        segment: as it was drawn.
        reading: of its tokens, and of the law of the next one.
        ended: whether that law's entropy ended it.

    Raises:
        PolicyError: if that of some token is missing.
    """
    num_tokens, reading = len(segment.tokens), reading or {}
    entropies = reading.get(_ENTROPIES, [])
    certainty = Certainty(tuple(entropies), tuple(reading.get(_SELF_CERTAINTIES, []))).upto(
        num_tokens
    )
    if len(certainty.entropies) < num_tokens or -math.inf in certainty.entropies:
        raise PolicyError(
            f"the engine has lost what it measured of {num_tokens} tokens: it keeps that of the "
            "latest requests only, if nobody reads it"
        )
    boundary_entropy = entropies[num_tokens] if ended else None
    return replace(segment, certainty=certainty, boundary_entropy=boundary_entropy)

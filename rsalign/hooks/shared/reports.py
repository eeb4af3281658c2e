"""The reports of `SegmentEnd` and `TokenStatistics`, and what they add to a segment."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from rsalign.core.errors import PolicyError
from rsalign.core.types import Certainty, Segment
from rsalign.engines.reports import Report

if TYPE_CHECKING:
    from torch import Tensor

_BOUNDARY = "boundary_entropy"
_ENDED = "ended"
_ENTROPIES = "entropies"
_SELF_CERTAINTIES = "self_certainties"


def boundary_report(values: "Tensor", num_drawn: int) -> Report:
    """Returns the report of `SegmentEnd` on one step: the entropy, nats, and whether it ended.

    Args:
        values: entropies and ends (1 or 0) of the last two steps, by the parity of the number of
            tokens drawn, ``(2, 2)``, or with more values in each row.
        num_drawn: the number of tokens before the one that is reported on.
    """
    entropy, ended, *_ = values[num_drawn % 2].tolist()
    return {_BOUNDARY: [entropy], _ENDED: [ended]}


def statistics_report(statistics: "Tensor") -> Report:
    """Returns the report of `TokenStatistics`.

    Args:
        statistics: entropy and self-certainty of each token's law, nats, ``(tokens, 2)``.
    """
    entropies, self_certainties = statistics.T.tolist()
    return {_ENTROPIES: entropies, _SELF_CERTAINTIES: self_certainties}


def ended_segment(report: Report | None) -> bool:
    """Tells whether the rule ended the segment, and not the model.

    Raises:
        PolicyError: if the report is missing.
    """
    (ended,) = (report or {}).get(_ENDED, [-math.inf])
    if ended == -math.inf:
        raise PolicyError(
            "the engine has lost whether a segment ended or the response: it keeps that of the "
            "latest requests only, if nobody reads it"
        )
    return ended > 0


def add_boundary_entropy(segment: Segment, report: Report | None) -> Segment:
    """Returns a segment that an entropy ended, with that entropy if it is known."""
    (entropy,) = (report or {}).get(_BOUNDARY, [None])
    return replace(segment, boundary_entropy=entropy)


def add_certainty(segment: Segment, report: Report | None, *, ended: bool) -> Segment:
    """Returns a segment with the certainty of each of its tokens.

    Args:
        segment: as it was drawn.
        report: of the laws of its tokens, and of the token after them.
        ended: whether the entropy of the token after them ended the segment.

    Raises:
        PolicyError: if the certainty of some token is missing.
    """
    num_tokens, report = len(segment.tokens), report or {}
    entropies = report.get(_ENTROPIES, [])
    certainty = Certainty(tuple(entropies), tuple(report.get(_SELF_CERTAINTIES, []))).upto(
        num_tokens
    )
    if len(certainty.entropies) < num_tokens or -math.inf in certainty.entropies:
        raise PolicyError(
            f"the engine has lost what it measured of {num_tokens} tokens: it keeps that of the "
            "latest requests only, if nobody reads it"
        )
    boundary_entropy = entropies[num_tokens] if ended else None
    return replace(segment, certainty=certainty, boundary_entropy=boundary_entropy)

"""What a line of a journal holds: the address of a request, and its answer as JSON data."""

import hashlib
from typing import Any

from rsalign.core.protocols import Scored
from rsalign.core.types import Certainty, Response, Segment, Stop


def address(*parts: Any) -> str:
    """What stands for a request: a digest of all that its answer depends on."""
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def read_of(response: Response) -> tuple[object, ...]:
    """All of a response that a reward can read."""
    return (
        response.text,
        response.tokens,
        response.stop,
        response.stop_reason,
        response.log_probs,
        response.certainty,
    )


def scored_of(found: Any) -> Scored:
    """A reward from a record."""
    value, tokens, cached = found
    return Scored(value, tokens=tokens, cached_tokens=cached)


def plain_number(value: Any) -> Any:
    """NumPy's numbers, which JSON does not know."""
    return value.item()


def plain(segment: Segment) -> list[Any]:
    """A segment for a record, with all that it tells."""
    return [
        segment.tokens,
        segment.log_probs,
        segment.stop,
        segment.stop_reason,
        segment.cached_tokens,
        segment.beyond and plain(segment.beyond),
        segment.boundary_entropy,
        segment.certainty and [segment.certainty.entropies, segment.certainty.self_certainties],
    ]


def segment_of(found: Any) -> Segment:
    """A segment from a record."""
    tokens, log_probs, stop, stop_reason, cached_tokens, beyond, boundary_entropy, certainty = found
    return Segment(
        tuple(tokens),
        None if log_probs is None else tuple(log_probs),
        Stop(stop),
        stop_reason,
        cached_tokens,
        boundary_entropy,
        certainty and Certainty(*map(tuple, certainty)),
        beyond and segment_of(beyond),
    )

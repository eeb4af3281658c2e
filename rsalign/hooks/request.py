"""What a request asks of the hook, in its `extra_args`."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from rsalign.errors import ConfigError

_PREFIX = "rsalign_"
_KINDS: Mapping[str, tuple[type, ...]] = {
    "rsalign_entropy_threshold": (int, float),
    "rsalign_entropy_min_tokens": (int,),
    "rsalign_marks": (str,),
    "rsalign_marks_min_entropy": (int, float),
    "rsalign_marks_min_tokens": (int,),
    "rsalign_sentinel": (int,),
    "rsalign_report": (str,),
}


@dataclass(frozen=True, slots=True)
class SegmentRequest:
    """When one request ends, in tokens drawn by this request.

    Attributes:
        threshold: it ends before a token of at least this entropy, nats; infinity: never.
        min_tokens: fewest tokens before it ends so.
        marks: it ends after a token that contains one of these characters; empty: never.
        mark_entropy: that token's own law had at least this entropy, nats.
        mark_min_tokens: fewest tokens, the mark included.
        sentinel: the stop token that is forced where the segment ends.
        report: where the entropies are wanted; see `rsalign.engines.entropies`.
    """

    threshold: float
    min_tokens: int
    marks: str
    mark_entropy: float
    mark_min_tokens: int
    sentinel: int
    report: str = ""


def read_request(
    extra_args: Mapping[str, Any] | None, stop_token_ids: Collection[int], min_tokens: int = 0
) -> SegmentRequest | None:
    """What `extra_args` ask for; None if nothing.

    Args:
        extra_args: of the request's `SamplingParams`; keys that are not ours are ignored.
        stop_token_ids: of the request.
        min_tokens: vLLM's own; a segment does not end before it either.

    Raises:
        ConfigError: if a key of ours is unknown, or its value is not allowed.
    """
    asked = {key: v for key, v in (extra_args or {}).items() if key.startswith(_PREFIX)}
    if not asked:
        return None
    for key, value in asked.items():
        if key not in _KINDS:
            raise ConfigError(f"extra_args has {key!r}: there are only {', '.join(_KINDS)}")
        if not isinstance(value, _KINDS[key]) or isinstance(value, bool):
            names = " or ".join(kind.__name__ for kind in _KINDS[key])
            raise ConfigError(f"{key}={value!r}: must be of type {names}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{key}={value!r}: must be finite")
        if key.endswith("_min_tokens") and value < 1:
            raise ConfigError(f"{key}={value!r}: a segment has at least 1 token")
    sentinel = asked.get("rsalign_sentinel")
    if sentinel is None or sentinel not in stop_token_ids:
        raise ConfigError(
            f"rsalign_sentinel={sentinel!r}: must be one of the request's stop_token_ids, which "
            f"are {sorted(stop_token_ids)}"
        )
    if "rsalign_entropy_threshold" not in asked and not asked.get("rsalign_marks"):
        raise ConfigError(
            f"extra_args has {', '.join(asked)} and says not where a segment ends: give "
            "rsalign_entropy_threshold or rsalign_marks"
        )
    return SegmentRequest(
        threshold=float(asked.get("rsalign_entropy_threshold", math.inf)),
        min_tokens=max(asked.get("rsalign_entropy_min_tokens", 1), min_tokens),
        marks=asked.get("rsalign_marks", ""),
        mark_entropy=float(asked.get("rsalign_marks_min_entropy", 0.0)),
        mark_min_tokens=max(asked.get("rsalign_marks_min_tokens", 1), min_tokens),
        sentinel=sentinel,
        report=asked.get("rsalign_report", ""),
    )

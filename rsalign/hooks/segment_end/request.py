"""What a request asks of `SegmentEnd`, and how it is written into `extra_args`."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rsalign.core.errors import ConfigError
from rsalign.core.overdraw import needs_entropy
from rsalign.core.protocols import Boundary
from rsalign.core.types import Sampling
from rsalign.hooks.loading import has_hook, hook_path, how_to_have_hook
from rsalign.hooks.segment_end.sentinel import Sentinel
from rsalign.hooks.shared.arguments import HIDING, hides_the_model, read_arguments

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig

_HOOK = "SegmentEnd"
_KEYS = (
    "rsalign_entropy_threshold",
    "rsalign_entropy_min_tokens",
    "rsalign_marks",
    "rsalign_marks_min_entropy",
    "rsalign_marks_min_tokens",
    "rsalign_confidence_window",
    "rsalign_confidence_below",
    "rsalign_sentinel",
    "rsalign_shared_sentinel",
    "rsalign_report",
)
_SENTINELS = ("rsalign_sentinel", "rsalign_shared_sentinel")


@dataclass(frozen=True, slots=True)
class SegmentRequest:
    """Where the segment of one request ends, counted in tokens that this request draws.

    Attributes:
        threshold: it ends before a token whose law has this entropy or more, nats; infinity: never.
        min_tokens: fewest tokens before it ends so.
        marks: it ends after a token that contains one of these characters; empty: never.
        mark_entropy: the law of that token must have had at least this entropy, nats.
        mark_min_tokens: fewest tokens before it ends so, the mark included.
        sentinel: the stop token that the hook forces where the segment ends.
        window: it ends after a token at which the mean entropy over so many tokens
            (`rsalign.segments.LowConfidence`) is above `most_entropy`; no earlier than this.
        most_entropy: nats; infinity: never.
        shared: whether the sentinel keeps the probability that the model gives it elsewhere.

    Example:
        >>> SegmentRequest(1.5, 4, "", 0.0, 1, sentinel=7).threshold
        1.5
    """

    threshold: float
    min_tokens: int
    marks: str
    mark_entropy: float
    mark_min_tokens: int
    sentinel: int
    shared: bool = False
    window: int = 1
    most_entropy: float = math.inf


def read_segment_params(params: "SamplingParams") -> SegmentRequest | None:
    """Returns what the parameters of a request ask for; see `read_segment_request`."""
    return read_segment_request(params.extra_args, params.stop_token_ids or (), params.min_tokens)


def read_segment_request(
    extra_args: Mapping[str, Any] | None, stop_token_ids: Collection[int], min_tokens: int = 0
) -> SegmentRequest | None:
    """Returns what `extra_args` ask for; None if nothing.

    Args:
        extra_args: of the request's `SamplingParams`.
        stop_token_ids: of the request.
        min_tokens: vLLM's own; a segment does not end before it either.

    Raises:
        ConfigError: if a key is unknown, a value is not allowed, there is no sentinel or it is no
            stop token, nobody could tell a shared sentinel from a token of the model's, or no rule
            says where a segment ends.
    """
    given = {key: v for key, v in read_arguments(extra_args).items() if key in _KEYS}
    if not given:
        return None
    for key, value in given.items():
        if key.endswith("_min_tokens") and value < 1:
            raise ConfigError(f"{key}={value!r}: a segment has at least 1 token")
    named = [key for key in _SENTINELS if key in given]
    if len(named) > 1:
        raise ConfigError(f"{' and '.join(named)} exclude each other: give one of them")
    (key,) = named or _SENTINELS[:1]
    sentinel = given.get(key)
    if sentinel is None or sentinel not in stop_token_ids:
        raise ConfigError(
            f"{key}={sentinel!r}: must be one of the request's stop_token_ids, which "
            f"are {sorted(stop_token_ids)}"
        )
    if key == "rsalign_shared_sentinel" and not given.get("rsalign_report"):
        raise ConfigError(
            f"{key}={sentinel!r}: only the report tells whether this token ended a segment: give "
            "rsalign_report (a ticket), or rsalign_sentinel, a token that no response needs"
        )
    rules = ("rsalign_entropy_threshold", "rsalign_confidence_below")
    if not given.get("rsalign_marks") and not any(rule in given for rule in rules):
        raise ConfigError(
            f"extra_args has {', '.join(given)} and says not where a segment ends: give "
            "rsalign_entropy_threshold, rsalign_marks or rsalign_confidence_below"
        )
    if (window := given.get("rsalign_confidence_window", 1)) < 1:
        raise ConfigError(f"rsalign_confidence_window={window!r}: give at least 1 token")
    return SegmentRequest(
        threshold=float(given.get("rsalign_entropy_threshold", math.inf)),
        min_tokens=max(given.get("rsalign_entropy_min_tokens", 1), min_tokens),
        marks=given.get("rsalign_marks", ""),
        mark_entropy=float(given.get("rsalign_marks_min_entropy", 0.0)),
        mark_min_tokens=max(given.get("rsalign_marks_min_tokens", 1), min_tokens),
        sentinel=sentinel,
        shared=key == "rsalign_shared_sentinel",
        window=max(window, min_tokens),
        most_entropy=-float(given.get("rsalign_confidence_below", -math.inf)),
    )


def read_ticket(extra_args: Mapping[str, Any] | None) -> str:
    """Returns the ticket for the report of the entropy at the boundary; empty if there is none."""
    return str((extra_args or {}).get("rsalign_report", ""))


def write_segment_request(
    boundary: Boundary, config: "VllmConfig", law: Sampling, sentinel: Sentinel | None
) -> dict[str, int | float | str]:
    """Returns the `extra_args` of a boundary, without its ticket.

    Args:
        boundary: where a segment ends.
        config: of the engine.
        law: what the tokens are drawn from.
        sentinel: see `Sentinels.choose`.

    Returns:
        Empty if the engine has nothing to do: the boundary is only a size, or it reads the tokens
        alone and the engine cannot apply it, so that a segment is cut after it was drawn.

    Raises:
        ConfigError: if the boundary reads entropies and the engine cannot honour it exactly.
    """
    if not boundary.engine_arguments:
        return {}
    refusal = _refusal(config, law, sentinel)
    if sentinel is not None and refusal is None:
        return {**boundary.engine_arguments, **sentinel.argument}
    if needs_entropy(boundary):
        raise ConfigError(f"boundary={boundary!r} {refusal}")
    return {}


def _refusal(config: "VllmConfig", law: Sampling, sentinel: Sentinel | None) -> str | None:
    """Why an engine cannot end segments exactly, and what to do; None if it can."""
    path = hook_path(config, _HOOK)
    if not has_hook(config, _HOOK):
        return (
            "is honoured inside the engine, and this one cannot: "
            f"{how_to_have_hook(config, _HOOK)}, or use FixedSize or Punctuation(min_entropy=0)"
        )
    if hides_the_model(law, path):
        return (
            f"needs the model's own entropies, which {law} hides: leave out "
            f"{HIDING}, or use FixedSize or Punctuation(min_entropy=0)"
        )
    if sentinel is None:
        return (
            f"needs a token that ends a segment inside the engine. {config.model_config.model} has "
            "no spare token, and no EOS or stop token ends a response (ignore_eos) or the engine "
            "cannot report which of them ended a segment: leave out ignore_eos, let rsalign start "
            "the engine, or use FixedSize or Punctuation(min_entropy=0)"
        )
    return None

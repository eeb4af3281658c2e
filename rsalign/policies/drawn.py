"""What an engine has drawn, as a segment of a policy."""

from collections.abc import Collection

from rsalign.core.errors import PolicyError
from rsalign.core.protocols import Listed
from rsalign.core.types import Sampling, Segment, Stop
from rsalign.engines.protocol import DrawResult


def read_segment(drawn: DrawResult, room: int, law: Sampling, eos: Collection[int]) -> Segment:
    """Returns a completion as a segment.

    Args:
        drawn: the completion.
        room: number of tokens after which the response, and not only the segment, is full.
        law: what the tokens were drawn from.
        eos: the end-of-sequence tokens.

    Raises:
        PolicyError: if the engine ended the request for a reason of its own.

    Example:
        >>> drawn = DrawResult(tokens=(7, 2), finish_reason="length")
        >>> read_segment(drawn, 2, Sampling(), ()).stop is Stop.LENGTH
        True
    """
    tokens = drawn.tokens
    reason: int | str | None = None
    if drawn.finish_reason == "length":
        stop = Stop.BOUNDARY if len(tokens) < room else Stop.LENGTH
    elif drawn.finish_reason != "stop":
        raise PolicyError(f"the engine ended a request with {drawn.finish_reason!r}")
    elif drawn.stop_reason is None or (
        drawn.stop_reason in eos and drawn.stop_reason not in law.stop_token_ids
    ):
        stop = Stop.EOS
    else:
        stop, reason = Stop.STOP, drawn.stop_reason
    return Segment(tokens, _log_probs(drawn, law), stop, reason, drawn.num_cached_tokens)


def _log_probs(drawn: DrawResult, law: Sampling) -> tuple[float, ...] | None:
    if drawn.log_probs is None:
        # the law of a greedy policy is a point mass, whatever the engine returns
        return (0.0,) * len(drawn.tokens) if law.greedy else None
    # rounding can leave a certain token a hair above probability 1
    values = tuple(0.0 if law.greedy else min(0.0, x) for x in drawn.log_probs)
    if drawn.listed is None:
        return values
    return tuple(
        Listed(value, others=listed) for value, listed in zip(values, drawn.listed, strict=True)
    )

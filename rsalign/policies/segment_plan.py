"""How one segment ends in an engine: what the engine is asked for, and what its answer means."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rsalign.core.overdraw import find_segment_end
from rsalign.core.protocols import Boundary
from rsalign.core.types import Sampling, Segment, Tokens
from rsalign.engines.protocol import DrawResult
from rsalign.hooks.segment_end.request import write_segment_request
from rsalign.hooks.segment_end.sentinel import Sentinel, Sentinels

if TYPE_CHECKING:
    from vllm.config import VllmConfig


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """How the segment of one request ends.

    Attributes:
        boundary: where it ends; None: with the response.
        sentinel: the stop token by which the engine ends it; None: the engine only counts tokens.
        can_report: whether the report of the engine's logits processor can be read.

    Example:
        >>> SegmentPlan(None, None, can_report=True).describe(None)
        'by their size'
    """

    boundary: Boundary | None
    sentinel: Sentinel | None
    can_report: bool

    @classmethod
    def of(
        cls,
        boundary: Boundary | None,
        config: "VllmConfig",
        law: Sampling,
        sentinels: Sentinels,
        *,
        can_report: bool,
    ) -> "SegmentPlan":
        """Plans a segment of an engine with this configuration.

        Raises:
            ConfigError: if the engine cannot honour the boundary exactly.
        """
        sentinel = None
        if boundary is not None and boundary.engine_arguments:
            sentinel = sentinels.choose(law, can_report=can_report)
            if not write_segment_request(boundary, config, law, sentinel):
                sentinel = None
        return cls(boundary, sentinel, can_report)

    def arguments(self, ticket: str) -> dict[str, int | float | str]:
        """Returns the arguments of the logits processor; none if the engine only counts tokens.

        Args:
            ticket: of its report. It is named even if nobody reads it: by it the logits processor
                recognises the request after a preemption. Of reports that nobody reads, another
                process drops the oldest.
        """
        if self.boundary is None or self.sentinel is None:
            return {}
        named = {"rsalign_report": ticket} if self.can_report else {}
        return {**self.boundary.engine_arguments, **self.sentinel.argument, **named}

    @property
    def stop_token_ids(self) -> Tokens:
        """The tokens that end the request, besides those that end a response."""
        return () if self.sentinel is None else (self.sentinel.token,)

    @property
    def tells_entropy(self) -> bool:
        """Whether the engine reports the entropy of the token that would have come next."""
        asked = self.arguments("")
        return self.can_report and "rsalign_entropy_threshold" in asked

    def may_have_ended(self, drawn: DrawResult) -> bool:
        """Whether the last token is the one by which the engine ends segments."""
        return drawn.finish_reason == "stop" and drawn.tokens[-1:] == self.stop_token_ids

    def cut(self, segment: Segment, text: Callable[[int], str]) -> Segment:
        """Cuts a segment that the engine could not end, because it only counted tokens.

        Args:
            segment: as it was drawn.
            text: of one token.
        """
        if self.sentinel is not None or self.boundary is None or not self.boundary.engine_arguments:
            return segment
        length = find_segment_end(segment.tokens, self.boundary, lambda one: text(*one))
        return segment if length is None else segment.cut(length)

    def describe(self, tokenizer: Any) -> str:
        """Returns how segments end, for people."""
        if self.sentinel is not None:
            return describe_sentinel(self.sentinel, tokenizer)
        if self.boundary is None or not self.boundary.engine_arguments:
            return "by their size"
        return "by a cut after they were drawn"


def describe_sentinel(sentinel: Sentinel, tokenizer: Any) -> str:
    """Returns which token ends segments, for people."""
    (name,) = tokenizer.convert_ids_to_tokens([sentinel.token])
    if sentinel.shared:
        return f"by {name!r} (id {sentinel.token}), told from the response's own by a report"
    return f"by {name!r} (id {sentinel.token}), which no response needs"

"""The hooks for vLLM's second model runner, which GPUs use where Triton works."""

from rsalign.hooks.arithmetic.v2 import Arithmetic
from rsalign.hooks.guided.v2 import Guided
from rsalign.hooks.segment_end.v2 import SegmentEnd
from rsalign.hooks.token_statistics.v2 import TokenStatistics

__all__ = ["Arithmetic", "Guided", "SegmentEnd", "TokenStatistics"]

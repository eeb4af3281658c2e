"""The hooks for vLLM's first model runner, which CPUs use."""

from rsalign.hooks.arithmetic.v1 import Arithmetic
from rsalign.hooks.guided.v1 import Guided
from rsalign.hooks.segment_end.v1 import SegmentEnd
from rsalign.hooks.token_statistics.v1 import TokenStatistics

__all__ = ["Arithmetic", "Guided", "SegmentEnd", "TokenStatistics"]

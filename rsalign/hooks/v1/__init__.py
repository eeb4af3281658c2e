"""The hooks for vLLM's first model runner, which CPUs use."""

from rsalign.hooks.v1.arithmetic import Arithmetic
from rsalign.hooks.v1.guided import Guided
from rsalign.hooks.v1.segment_end import SegmentEnd
from rsalign.hooks.v1.token_statistics import TokenStatistics

__all__ = ["Arithmetic", "Guided", "SegmentEnd", "TokenStatistics"]

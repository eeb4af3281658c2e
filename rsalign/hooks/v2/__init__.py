"""The hooks for vLLM's second model runner, which GPUs use where Triton works."""

from rsalign.hooks.v2.arithmetic import Arithmetic
from rsalign.hooks.v2.guided import Guided
from rsalign.hooks.v2.segment_end import SegmentEnd
from rsalign.hooks.v2.token_statistics import TokenStatistics

__all__ = ["Arithmetic", "Guided", "SegmentEnd", "TokenStatistics"]

"""What strategies that draw an answer segment by segment are made of.

`segmenters` say where segments end, `thresholds` which reward a partial answer must reach, and
`acceptance` with what probability a draft is accepted.
"""

from rsalign.segments.segmenters import (
    SEGMENTERS,
    Blocks,
    Entropy,
    FixedSize,
    LowConfidence,
    Punctuation,
)

__all__ = ["SEGMENTERS", "Blocks", "Entropy", "FixedSize", "LowConfidence", "Punctuation"]

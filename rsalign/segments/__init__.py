"""Where a segment may end: values that a policy honours while it draws."""

from rsalign.segments.entropy import Entropy
from rsalign.segments.fixed_size import FixedSize
from rsalign.segments.punctuation import Punctuation

__all__ = ["SEGMENTERS", "Entropy", "FixedSize", "Punctuation"]

SEGMENTERS = {"fixed_size": FixedSize, "entropy": Entropy, "punctuation": Punctuation}
"""What settings call them; a class of one's own is named ``module:Class``."""

"""Where a segment may end: values that a policy honours while it draws."""

from rsalign.segmenters.entropy import Entropy
from rsalign.segmenters.fixed_size import FixedSize
from rsalign.segmenters.punctuation import Punctuation

__all__ = ["SEGMENTERS", "Entropy", "FixedSize", "Punctuation"]

SEGMENTERS = {"fixed_size": FixedSize, "entropy": Entropy, "punctuation": Punctuation}
"""What settings call them; a class of one's own is named ``module:Class``."""

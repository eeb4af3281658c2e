"""Where a Markov chain may cut a response, and with what probability.

A cut law is a value with a weight h for every position, which may depend on what lies before the
cut and on nothing else: q(i | y) = h(y_<i) / H(y), where H(y) = sum over i < |y| of h(y_<i). For a
fixed cut the chain's move is then an independence sampler on the suffix, and the correction in its
acceptance is H(y) / H(y'), whatever the law.
"""

from rsalign.chains.cuts.blocks import BlockCuts
from rsalign.chains.cuts.entropy import EntropyCuts
from rsalign.chains.cuts.fixed import FixedCuts
from rsalign.chains.cuts.protocol import CutLaw, Position, Weights, cut_weights
from rsalign.chains.cuts.segments import SegmentCuts
from rsalign.chains.cuts.uniform import UniformCuts

__all__ = [
    "CUTS",
    "BlockCuts",
    "CutLaw",
    "EntropyCuts",
    "FixedCuts",
    "Position",
    "SegmentCuts",
    "UniformCuts",
    "Weights",
    "cut_weights",
]

CUTS: dict[
    str,
    type[UniformCuts] | type[BlockCuts] | type[SegmentCuts] | type[EntropyCuts] | type[FixedCuts],
] = {
    "uniform": UniformCuts,
    "blocks": BlockCuts,
    "segments": SegmentCuts,
    "entropy": EntropyCuts,
    "fixed": FixedCuts,
}
"""What the command line calls them; a class of one's own is named ``module:Class``."""

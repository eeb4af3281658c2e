"""Cut laws: where a Markov chain may cut a response, and with what probability.

A cut law is a value with a weight h for every position. A weight may depend on what comes before
the cut and on nothing else: q(i | y) = h(y_<i) / H(y), where H(y) = sum over i < |y| of h(y_<i).
Given the cut, the chain's move is then an independence sampler on the suffix, and the correction in
its acceptance probability is H(y) / H(y'), whatever the law.
"""

from rsalign.chains.cuts.laws import BlockCuts, EntropyCuts, FixedCuts, SegmentCuts, UniformCuts
from rsalign.chains.cuts.protocol import CutLaw, CutWeights, Position, cut_weights

__all__ = [
    "CUTS",
    "BlockCuts",
    "CutLaw",
    "CutWeights",
    "EntropyCuts",
    "FixedCuts",
    "Position",
    "SegmentCuts",
    "UniformCuts",
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
"""Cut laws by their names in settings; any other class is named as ``module:Class``."""

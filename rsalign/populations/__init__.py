"""Populations: many prefixes of one answer at once, weighed, copied and dropped as they grow.

`rsalign.populations.particle_filter` has the rounds of sequential Monte Carlo,
`rsalign.populations.search` those of the searches, which keep the prefixes of highest reward.
`ParticleGibbs` is a population as a move of a Markov chain.
"""

from rsalign.populations.particle_gibbs import MOVES, ParticleGibbs
from rsalign.populations.resampling import (
    RESAMPLINGS,
    Multinomial,
    Resampling,
    Residual,
    Stratified,
    Systematic,
)
from rsalign.populations.twists import TWISTS, LookAhead, PartialReward, Twist

__all__ = [
    "MOVES",
    "RESAMPLINGS",
    "TWISTS",
    "LookAhead",
    "Multinomial",
    "PartialReward",
    "ParticleGibbs",
    "Resampling",
    "Residual",
    "Stratified",
    "Systematic",
    "Twist",
]

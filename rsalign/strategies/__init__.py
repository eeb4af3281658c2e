"""Strategies: methods that draw an answer. Each has its own file, named as in `STRATEGIES`."""

from rsalign.strategies.allocated import Allocated
from rsalign.strategies.arithmetic_sampling import ArithmeticSampling
from rsalign.strategies.beam import Beam
from rsalign.strategies.best_of import BestOf
from rsalign.strategies.calibrate import Calibrate
from rsalign.strategies.cards import Cards
from rsalign.strategies.cautious import Cautious
from rsalign.strategies.chunks import Chunks
from rsalign.strategies.deep_conf import DeepConf
from rsalign.strategies.distinct import Distinct
from rsalign.strategies.dvts import Dvts
from rsalign.strategies.early_drop import EarlyDrop
from rsalign.strategies.early_stop import EarlyStop
from rsalign.strategies.gsi import Gsi
from rsalign.strategies.particles import Particles
from rsalign.strategies.plain import Plain
from rsalign.strategies.power import Power
from rsalign.strategies.priority_sampling import PrioritySampling
from rsalign.strategies.qalign import QAlign
from rsalign.strategies.quest import Quest
from rsalign.strategies.rejection import Rejection
from rsalign.strategies.rsd import Rsd
from rsalign.strategies.speculate import Speculate
from rsalign.strategies.stochastic_beam import StochasticBeam
from rsalign.strategies.tree_search import TreeSearch

__all__ = [
    "STRATEGIES",
    "Allocated",
    "ArithmeticSampling",
    "Beam",
    "BestOf",
    "Calibrate",
    "Cards",
    "Cautious",
    "Chunks",
    "DeepConf",
    "Distinct",
    "Dvts",
    "EarlyDrop",
    "EarlyStop",
    "Gsi",
    "Particles",
    "Plain",
    "Power",
    "PrioritySampling",
    "QAlign",
    "Quest",
    "Rejection",
    "Rsd",
    "Speculate",
    "StochasticBeam",
    "TreeSearch",
]

STRATEGIES = {
    "plain": Plain,
    "best_of": BestOf,
    "early_stop": EarlyStop,
    "allocated": Allocated,
    "arithmetic_sampling": ArithmeticSampling,
    "cards": Cards,
    "calibrate": Calibrate,
    "qalign": QAlign,
    "quest": Quest,
    "power": Power,
    "rejection": Rejection,
    "particles": Particles,
    "beam": Beam,
    "dvts": Dvts,
    "early_drop": EarlyDrop,
    "speculate": Speculate,
    "rsd": Rsd,
    "gsi": Gsi,
    "chunks": Chunks,
    "tree_search": TreeSearch,
    "deep_conf": DeepConf,
    "distinct": Distinct,
    "priority_sampling": PrioritySampling,
    "stochastic_beam": StochasticBeam,
    "cautious": Cautious,
}
"""The registry: strategies by their names in settings; any other class is ``module:Class``."""

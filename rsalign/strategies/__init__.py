"""Strategies: methods that draw an answer. Each has its own file, named as in `STRATEGIES`."""

from rsalign.strategies.allocated import Allocated
from rsalign.strategies.beam import Beam
from rsalign.strategies.best_of import BestOf
from rsalign.strategies.calibrate import Calibrate
from rsalign.strategies.cards import Cards
from rsalign.strategies.dvts import Dvts
from rsalign.strategies.early_drop import EarlyDrop
from rsalign.strategies.early_stop import EarlyStop
from rsalign.strategies.particles import Particles
from rsalign.strategies.plain import Plain
from rsalign.strategies.power import Power
from rsalign.strategies.qalign import QAlign
from rsalign.strategies.quest import Quest
from rsalign.strategies.rejection import Rejection

__all__ = [
    "STRATEGIES",
    "Allocated",
    "Beam",
    "BestOf",
    "Calibrate",
    "Cards",
    "Dvts",
    "EarlyDrop",
    "EarlyStop",
    "Particles",
    "Plain",
    "Power",
    "QAlign",
    "Quest",
    "Rejection",
]

STRATEGIES = {
    "plain": Plain,
    "best_of": BestOf,
    "early_stop": EarlyStop,
    "allocated": Allocated,
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
}
"""The registry: strategies by their names in settings; any other class is ``module:Class``."""

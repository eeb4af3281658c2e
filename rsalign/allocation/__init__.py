"""Allocation of a total number of draws to many prompts.

Draws have addresses, so a rule decides only how many of them each prompt gets.
`rsalign.strategies.allocated.Allocated` applies a rule.
"""

from typing import Any

from rsalign.allocation.allocation import Allocation
from rsalign.allocation.rules import (
    AllocationRule,
    Blend,
    ByAcceptance,
    Drawn,
    Uniform,
    Unsolved,
)

__all__ = [
    "ALLOCATION_RULES",
    "Allocation",
    "AllocationRule",
    "Blend",
    "ByAcceptance",
    "Drawn",
    "Uniform",
    "Unsolved",
]

ALLOCATION_RULES: dict[str, type[Any]] = {
    "uniform": Uniform,
    "blend": Blend,
    "by_acceptance": ByAcceptance,
    "unsolved": Unsolved,
}
"""Rules by their names in settings; any other class is named ``module:Class``."""

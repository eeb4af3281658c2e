"""Two configurations on the same items: how much better one is, and whether chance explains it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import permutation_test

from eval.analysis.intervals import (
    DIFFERENCE,
    LEVEL,
    RESAMPLES,
    SEED,
    Interval,
    batch_size,
    cluster_sums,
    mean_interval,
)
from eval.analysis.items import ByItem, ItemKey, shared

_EQUAL = 1e-9
"""Averages over seeds that differ by rounding alone are equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The result of comparing one configuration with another.

    Attributes:
        difference: of the means, the first minus the other.
        wins: items on which the first is better.
        ties: items on which both are equal.
        losses: items on which the other is better.
        p_value: of the sign-flip test, two-sided: how likely a difference of this size is if each
            cluster's difference could as well have had the other sign (Fisher 1935). Exact where
            few clusters differ, else from random flips and never 0.
    """

    difference: Interval
    wins: int
    ties: int
    losses: int
    p_value: float


def compare(
    one: ByItem, other: ByItem, *, level: float = LEVEL, resamples: int = RESAMPLES
) -> Comparison | None:
    """Compares gold scores on the items that both have; None if there are none.

    Args:
        one: gold scores by item.
        other: those of what it is compared with.
        level: of confidence.
        resamples: of the bootstrap, and greatest number of sign flips.
    """
    found = differences(one, other)
    if not found:
        return None
    wins = sum(d > 0 for d in found.values())
    losses = sum(d < 0 for d in found.values())
    return Comparison(
        difference=mean_interval(found, bounds=DIFFERENCE, level=level, resamples=resamples),
        wins=wins,
        ties=len(found) - wins - losses,
        losses=losses,
        p_value=sign_flip_p_value(list(cluster_sums(found).values()), flips=resamples),
    )


def differences(one: ByItem, other: ByItem) -> dict[ItemKey, float]:
    """One minus the other for each item that both have; equal up to rounding is 0."""
    found = {item: one[item] - other[item] for item in shared(one, other)}
    return {item: 0.0 if abs(value) < _EQUAL else value for item, value in found.items()}


def sign_flip_p_value(differences: Sequence[float], *, flips: int = RESAMPLES) -> float:
    """As `Comparison.p_value`; 1 if nothing differs.

    Args:
        differences: one per cluster, ``(clusters,)``.
        flips: greatest number; if all there are, are fewer, the test is exact.
    """
    differing = np.asarray([value for value in differences if value != 0], dtype=float)
    if len(differing) < 2:
        return 1.0  # one difference alone is as large with either sign
    tested = permutation_test(
        (differing,),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=flips,
        batch=batch_size(len(differing)),
        rng=SEED,
    )
    return float(tested.pvalue)

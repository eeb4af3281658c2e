"""Bootstrap intervals of means over items (BCa; Efron 1987), seeded."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import DegenerateDataWarning, bootstrap

RESAMPLES = 4999
LEVEL = 0.95
SEED = 0

_MOST_AT_ONCE = 4_000_000
"""Numbers; 32 MB."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over items and a confidence interval.

    Attributes:
        mean: over items.
        low: lower end, at most the mean.
        high: upper end, at least the mean.
        num_items: that it rests on.
    """

    mean: float
    low: float
    high: float
    num_items: int

    def excludes(self, value: float) -> bool:
        """Tells whether `value` lies outside the interval."""
        return value < self.low or value > self.high


def mean_interval(
    values: Sequence[float], *, level: float = LEVEL, resamples: int = RESAMPLES
) -> Interval:
    """Computes the mean over items with its confidence interval.

    For differences of two configurations on the same items this is the paired bootstrap. Where all
    values are equal, or there is only one, the interval has no width, which says nothing.

    Args:
        values: ``(items,)``, at least one.
        level: of confidence.
        resamples: of the items, with replacement.
    """
    return mean_intervals([values], level=level, resamples=resamples)[0]


def mean_intervals(
    rows: Sequence[Sequence[float]], *, level: float = LEVEL, resamples: int = RESAMPLES
) -> list[Interval]:
    """Computes the means of several values per item, all over the same resamples.

    Args:
        rows: ``(values, items)``, at least one item.
        level: of confidence, of each interval by itself.
        resamples: of the items, with replacement.
    """
    table = np.asarray(rows, dtype=float)
    num_items = table.shape[1]
    means = table.mean(axis=1)
    low, high = means.copy(), means.copy()
    varied = np.ptp(table, axis=1) > 0
    if varied.any():
        interval = _resampled(table[varied], level, resamples, "BCa").confidence_interval
        low[varied], high[varied] = interval.low, interval.high
    return [
        Interval(float(mean), float(min(mean, below)), float(max(mean, above)), num_items)
        for mean, below, above in zip(means, low, high, strict=True)
    ]


def resampled_means(
    rows: Sequence[Sequence[float]], *, resamples: int = RESAMPLES
) -> npt.NDArray[np.float64]:
    """Computes the means of several values per item for each resample of the items.

    Args:
        rows: ``(values, items)``, at least one item.
        resamples: of the items, with replacement.

    Returns:
        Means, ``(values, resamples)``; a column is one resample.
    """
    table = np.asarray(rows, dtype=float)
    if table.shape[1] == 1:
        return np.repeat(table, resamples, axis=1)
    means: npt.NDArray[np.float64] = _resampled(
        table, LEVEL, resamples, "percentile"
    ).bootstrap_distribution
    return means


def batch_size(num_values: int) -> int:
    """Number of resamples of `num_values` values that are held in memory at once."""
    return max(1, _MOST_AT_ONCE // num_values)


def _resampled(table: npt.NDArray[np.float64], level: float, resamples: int, method: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # nearly equal values
        return bootstrap(
            (table,),
            np.mean,
            axis=1,
            vectorized=True,
            batch=batch_size(table.size),
            confidence_level=level,
            n_resamples=resamples,
            method=method,
            rng=SEED,
        )

"""Confidence intervals of means over items that cover the truth also where items are few.

Items are the sample. Items of one cluster, say variants of one question, are not independent: an
item counts as one in the mean, and the cluster is the unit in its error.

`python -m eval.analysis.coverage` simulates how often these intervals cover (docs/sweeps.md).
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.stats import DegenerateDataWarning, bootstrap, norm, t

from eval.analysis.items import ByItem

RESAMPLES = 4999
LEVEL = 0.95
SEED = 0
SCORE = (0.0, 1.0)
"""Bounds of a gold score."""
DIFFERENCE = (-1.0, 1.0)
"""Bounds of a difference of gold scores, and of a correlation."""

Floats: TypeAlias = npt.NDArray[np.float64]

_MOST_AT_ONCE = 4_000_000
"""Numbers; 32 MB."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over items and a confidence interval.

    Attributes:
        mean: over items.
        low: lower end, at most the mean; minus infinity where nothing is known of it.
        high: upper end, at least the mean; infinity where nothing is known of it.
        num_items: that it rests on.

    Examples:
        >>> Interval(0.5, -math.inf, math.inf, 1).is_known
        False
    """

    mean: float
    low: float
    high: float
    num_items: int

    @classmethod
    def exact(cls, value: float, num_items: int) -> "Interval":
        """A value that is known and not estimated."""
        return cls(value, value, value, num_items)

    @property
    def is_known(self) -> bool:
        """Whether the interval has ends: one item, or equal ones, tell nothing of their spread."""
        return math.isfinite(self.high - self.low)

    def excludes(self, value: float) -> bool:
        """Tells whether `value` lies outside the interval."""
        return value < self.low or value > self.high


def mean_interval(
    values: ByItem,
    *,
    bounds: tuple[float, float] | None = None,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Interval:
    """Computes the mean over items with its confidence interval.

    For differences of two configurations on the same items the interval is paired.

    With `bounds`, it is Wilson's score interval (1927) of the share that the mean is of its range,
    at the effective number of items of the observed variance (Korn and Graubard 1998) and with
    Student's quantile. The variance is computed as if one more cluster could have any value, so
    that values which happen to be equal are not taken for certain: 20 right answers of 20 give
    [0.82, 1].

    Without, it is the smallest that has both Student's interval, which holds for symmetric values
    with long tails, and the bootstrap's BCa interval (Efron 1987) at the expanded level of
    Hesterberg (2015), which holds for skewed ones. Equal values give no ends.

    Args:
        values: at least one.
        bounds: the least and the greatest value that an item can have; None if there are none.
        level: of confidence.
        resamples: of the clusters, with replacement.
    """
    return mean_intervals([values], bounds=bounds, level=level, resamples=resamples)[0]


def mean_intervals(
    rows: Sequence[ByItem],
    *,
    bounds: tuple[float, float] | None = None,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> list[Interval]:
    """Computes the means of several values of the same items, all over the same resamples.

    Args:
        rows: several values of each item, ``(values,)`` mappings of the same items.
        bounds: see `mean_interval`, and so the others.
        level: of each interval by itself.
        resamples: see there.
    """
    sums, sizes = _clusters(rows)
    if bounds is not None:
        ends = [_bounded_ends(one, sizes, bounds, level) for one in sums]
    else:
        ends = _unbounded_ends(sums, sizes, level, resamples)
    means = sums.sum(axis=1) / sizes.sum()
    return [
        Interval(float(mean), float(min(mean, low)), float(max(mean, high)), len(rows[0]))
        for mean, (low, high) in zip(means, ends, strict=True)
    ]


def resampled_means(rows: Sequence[ByItem], *, resamples: int = RESAMPLES) -> Floats:
    """Computes the means of several values per item for each resample of the clusters.

    Args:
        rows: ``(values,)`` mappings of the same items.
        resamples: of the clusters, with replacement.

    Returns:
        Means, ``(values, resamples)``; a column is one resample.
    """
    sums, sizes = _clusters(rows)
    if len(sizes) == 1:
        return np.repeat(sums / sizes, resamples, axis=1)
    means: Floats = _resample(sums, sizes, LEVEL, resamples, "percentile").bootstrap_distribution
    return means


def batch_size(num_values: int) -> int:
    """Number of resamples of `num_values` values that are held in memory at once."""
    return max(1, _MOST_AT_ONCE // num_values)


def cluster_sums(values: ByItem) -> dict[str, float]:
    """Adds up the values of each cluster."""
    sums: dict[str, float] = {}
    for key, value in values.items():
        sums[key.cluster] = sums.get(key.cluster, 0.0) + value
    return sums


def _clusters(rows: Sequence[ByItem]) -> tuple[Floats, Floats]:
    """Sums over each cluster's items, ``(values, clusters)``, and their number, ``(clusters,)``."""
    sizes: Mapping[str, float] = cluster_sums(dict.fromkeys(rows[0], 1.0))
    sums = [cluster_sums(row) for row in rows]
    table = [[row[cluster] for cluster in sizes] for row in sums]
    return np.asarray(table, dtype=float), np.asarray(list(sizes.values()), dtype=float)


def _bounded_ends(
    sums: Floats, sizes: Floats, bounds: tuple[float, float], level: float
) -> tuple[float, float]:
    least, greatest = bounds
    num = len(sizes)
    if num == 1:
        return bounds
    shares = (sums - least * sizes) / (greatest - least)  # added up over each cluster
    share = float(shares.sum() / sizes.sum())
    largest = share * (1 - share)  # variance of outcomes that are 0 or 1
    # of the ratio of two sums, linearised; in units of the mean size of a cluster
    squares = float(np.sum((shares - share * sizes) ** 2)) / float(sizes.mean()) ** 2
    design = (squares / largest + 1) / num if largest > 0 else (num + 1) / num
    effective = num / design
    critical = float(t.ppf((1 + level) / 2, num - 1))
    centre = (share * effective + critical**2 / 2) / (effective + critical**2)
    half = critical / (effective + critical**2) * math.sqrt(largest * effective + critical**2 / 4)
    return (
        least + (greatest - least) * max(0.0, centre - half),
        least + (greatest - least) * min(1.0, centre + half),
    )


def _unbounded_ends(
    sums: Floats, sizes: Floats, level: float, resamples: int
) -> list[tuple[float, float]]:
    num = len(sizes)
    means = sums.sum(axis=1) / sizes.sum()
    apart = sums - means[:, None] * sizes
    scale = np.abs(sums).max(axis=1)
    varied = np.abs(apart).max(axis=1) > 1e-12 * scale  # more than rounding
    low = np.full(len(means), -math.inf)
    high = np.full(len(means), math.inf)
    if num > 1 and varied.any():
        critical = float(t.ppf((1 + level) / 2, num - 1))
        errors = np.sqrt(num / (num - 1) * np.sum(apart**2, axis=1)) / sizes.sum()
        expanded = 1 - 2 * float(norm.sf(math.sqrt(num / (num - 1)) * critical))
        found = _resample(sums[varied], sizes, expanded, resamples, "BCa").confidence_interval
        half = critical * errors[varied]
        low[varied] = np.fmin(means[varied] - half, found.low)
        high[varied] = np.fmax(means[varied] + half, found.high)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _resample(sums: Floats, sizes: Floats, level: float, resamples: int, method: str) -> Any:
    def ratio(sums: Floats, sizes: Floats, axis: int = -1) -> Floats:
        means: Floats = sums.sum(axis=axis) / sizes.sum(axis=axis)
        return means

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # nearly equal values
        return bootstrap(
            (sums, np.broadcast_to(sizes, sums.shape)),
            ratio,
            axis=1,
            paired=True,
            vectorized=True,
            batch=batch_size(2 * sums.size),
            confidence_level=level,
            n_resamples=resamples,
            method=method,
            rng=SEED,
        )

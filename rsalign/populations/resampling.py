"""Resampling: which particles go on, and how often.

A rule is given weights W_1 .. W_N that sum to 1 and names an ancestor for each of N places. All
rules are unbiased: the mean number of places of particle i is N W_i. They differ in its variance.

`Multinomial`:
Law      the N places are independent draws from W.
Paper    Gordon, Salmond and Smith 1993.

`Residual`:
Law      particle i has floor(N W_i) places for certain; the places that are left are independent
         draws in proportion to N W_i - floor(N W_i).
Paper    Liu and Chen 1998.

`Stratified`:
Law      place k is that particle in whose interval of the cumulated weights a uniform point of
         [k / N, (k + 1) / N) falls; the N points are independent.
Paper    Kitagawa 1996.

`Systematic`:
Law      the same with one point u, uniform in [0, 1), for all places: (k + u) / N. Particle i has
         floor(N W_i) or ceil(N W_i) places.
Paper    Carpenter, Clifford and Fearnhead 1999; Douc, Cappé and Moulines 2005 compare all four.

Cost     None of them asks a model.

Uniform points are drawn as what they decide: the interval in which a point falls is one of finitely
many, so that `rsalign.testing.law` can enumerate each rule.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from rsalign.core.checks import part
from rsalign.core.key import Key


@runtime_checkable
class Resampling(Protocol):
    """A frozen dataclass that draws the ancestors of the next particles, unbiasedly.

    Example:
        >>> isinstance(Multinomial(), Resampling)
        True
        >>> Multinomial().ancestors((0.0, 0.0, 1.0), Key(0))
        (2, 2, 2)
    """

    def ancestors(self, weights: Sequence[float], key: Key) -> tuple[int, ...]:
        """Draws the ancestor of each place.

        Args:
            weights: not negative, with the sum 1, ``(particles,)``.
            key: the address of this draw, at which or below which all draws are made.

        Returns:
            Numbers of particles, in ascending order, ``(particles,)``. The mean number of places of
            particle i is N W_i.
        """
        ...


RESAMPLING = part("a rule of resampling, such as Systematic() or Multinomial()")
"""What a rule must be where it is a setting, for `check_settings`."""


@dataclass(frozen=True, slots=True)
class Multinomial:
    """Independent draws.

    Example:
        >>> Multinomial().ancestors((0.0, 1.0), Key(0))
        (1, 1)
    """

    def ancestors(self, weights: Sequence[float], key: Key) -> tuple[int, ...]:
        """One draw for each place."""
        return tuple(sorted(key.child(k).categorical(weights) for k in range(len(weights))))


@dataclass(frozen=True, slots=True)
class Residual:
    """Whole numbers of places for certain, and independent draws for the rest.

    Example:
        >>> Residual().ancestors((0.5, 0.5), Key(0))
        (0, 1)
    """

    def ancestors(self, weights: Sequence[float], key: Key) -> tuple[int, ...]:
        """One draw for each place that is left."""
        n = len(weights)
        places = [math.floor(_whole(n * weight)) for weight in weights]
        left = n - sum(places)
        rest = [max(0.0, n * w - own) for w, own in zip(weights, places, strict=True)]
        drawn = [key.child(k).categorical(rest) for k in range(left)]
        return tuple(sorted([*drawn, *(i for i, own in enumerate(places) for _ in range(own))]))


@dataclass(frozen=True, slots=True)
class Stratified:
    """One point in each of N equal strata.

    Example:
        >>> Stratified().ancestors((0.5, 0.0, 0.0, 0.5), Key(0))
        (0, 0, 3, 3)
    """

    def ancestors(self, weights: Sequence[float], key: Key) -> tuple[int, ...]:
        """One draw for each stratum that several particles share."""
        ends = _cumulated(weights)
        starts = (0.0, *ends[:-1])
        return tuple(
            key.child(k).categorical(
                [
                    max(0.0, min(end, k + 1) - max(start, k))
                    for start, end in zip(starts, ends, strict=True)
                ]
            )
            for k in range(len(weights))
        )


@dataclass(frozen=True, slots=True)
class Systematic:
    """One point for all strata: the fewest surprises.

    Example:
        >>> Systematic().ancestors((0.5, 0.0, 0.0, 0.5), Key(0))
        (0, 0, 3, 3)
    """

    def ancestors(self, weights: Sequence[float], key: Key) -> tuple[int, ...]:
        """One draw: which of the intervals between the fractions of the cumulated weights."""
        ends = _cumulated(weights)
        marks = sorted({0.0, 1.0, *(end - math.floor(end) for end in ends)})
        chosen = key.categorical([high - low for low, high in itertools.pairwise(marks)])
        point = (marks[chosen] + marks[chosen + 1]) / 2  # all points of the interval decide equally
        places, before = [], 0
        for i, end in enumerate(ends):
            until = math.ceil(end - point)
            places += [i] * (until - before)
            before = until
        return tuple(places)


def _cumulated(weights: Sequence[float]) -> tuple[float, ...]:
    """N times the cumulated weights, of which the last is N exactly."""
    n = len(weights)
    ends = [_whole(n * total) for total in itertools.accumulate(weights)]
    last = max(i for i, weight in enumerate(weights) if weight > 0)
    return tuple(min(end, float(n)) if i < last else float(n) for i, end in enumerate(ends))


def _whole(value: float) -> float:
    """The whole number that a product differs from by its rounding alone; else the value."""
    nearest = float(round(value))
    return nearest if math.isclose(value, nearest, rel_tol=1e-12, abs_tol=1e-12) else value


RESAMPLINGS = {
    "multinomial": Multinomial,
    "residual": Residual,
    "stratified": Stratified,
    "systematic": Systematic,
}
"""Rules by their names in settings; any other class is named as ``module:Class``."""

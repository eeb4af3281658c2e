"""Rules of resampling: unbiased numbers of places, within the bounds that each states."""

import math

import pytest

from rsalign.populations import RESAMPLINGS, Multinomial, Residual, Stratified, Systematic
from rsalign.testing import law

WEIGHTS = [
    (1.0,),
    (0.5, 0.5),
    (0.3, 0.7),
    (0.0, 1.0),
    (1 / 3, 1 / 3, 1 / 3),
    (0.2, 0.5, 0.3),
    (0.1, 0.0, 0.9),
    (0.1, 0.2, 0.3, 0.4),
    (0.25, 0.5, 0.25, 0.0),
    (1e-17, 0.5, 0.5 - 1e-17, 0.0),
]


def laws_of(rule, weights):
    async def drawn(key):
        return rule.ancestors(weights, key)

    return law(drawn)


def mean_places(rule, weights):
    found = laws_of(rule, weights)
    return [
        math.fsum(mass * ancestors.count(i) for ancestors, mass in found.items())
        for i in range(len(weights))
    ]


def bias(rule, weights):
    n = len(weights)
    places = mean_places(rule, weights)
    return max(abs(mean - n * w) for mean, w in zip(places, weights, strict=True))


@pytest.mark.parametrize("weights", WEIGHTS, ids=repr)
@pytest.mark.parametrize("kind", RESAMPLINGS.values())
def test_the_mean_number_of_places_is_the_weight(kind, weights):
    assert bias(kind(), weights) < 1e-12


@pytest.mark.parametrize("weights", WEIGHTS, ids=repr)
@pytest.mark.parametrize("kind", RESAMPLINGS.values())
def test_as_many_as_before_in_order(kind, weights):
    for ancestors in laws_of(kind(), weights):
        assert len(ancestors) == len(weights)
        assert list(ancestors) == sorted(ancestors)
        assert all(weights[i] > 0 for i in ancestors)


@pytest.mark.parametrize("weights", WEIGHTS, ids=repr)
def test_numbers_of_places(weights):
    n = len(weights)
    for i, weight in enumerate(weights):
        least, most = math.floor(n * weight + 1e-9), math.ceil(n * weight - 1e-9)
        for ancestors in laws_of(Systematic(), weights):
            assert least <= ancestors.count(i) <= most
        for ancestors in laws_of(Residual(), weights):
            assert least <= ancestors.count(i)
        for ancestors in laws_of(Stratified(), weights):
            assert abs(ancestors.count(i) - n * weight) < 2


def test_laws_of_two_particles():
    one = (0.3, 0.7)
    pairs = [(0, 0), (0, 1), (1, 1)]
    expected = {
        Multinomial(): (0.09, 0.42, 0.49),
        Residual(): (0, 0.6, 0.4),  # place for particle 1 is certain, the other is 0.6 : 0.4
        Stratified(): (0, 0.6, 0.4),
        Systematic(): (0, 0.6, 0.4),
    }
    for rule, masses in expected.items():
        found = laws_of(rule, one)
        assert [found.get(pair, 0) for pair in pairs] == pytest.approx(masses, abs=1e-12)


def test_stratified_and_systematic_differ():
    """Of three strata, systematic points move together."""
    weights = (0.2, 0.5, 0.3)
    assert len(laws_of(Stratified(), weights)) > len(laws_of(Systematic(), weights))


class RoundsUp:
    """Wrong on purpose: the particles of greatest weight have the places that are left."""

    def ancestors(self, weights, key):
        n = len(weights)
        places = [math.floor(n * weight) for weight in weights]
        order = sorted(range(n), key=lambda i: -weights[i])
        for i in order[: n - sum(places)]:
            places[i] += 1
        return tuple(i for i in range(n) for _ in range(places[i]))


class ReusesThePoint(Stratified):
    """Wrong on purpose: the interval, not the point, is shared by all strata."""

    def ancestors(self, weights, key):
        chosen = key.categorical(weights)
        return (chosen,) * len(weights)


def test_planted_mistakes():
    assert bias(RoundsUp(), (0.2, 0.5, 0.3)) > 0.1
    assert bias(ReusesThePoint(), (0.2, 0.5, 0.3)) < 1e-12  # unbiased, and refused by the bounds
    assert any(places.count(0) == 3 for places in laws_of(ReusesThePoint(), (0.2, 0.5, 0.3)))

"""The rules that choose between a state and its proposals: balance, term by term."""

import itertools
import math

import pytest

from rsalign.chains.metropolis import (
    COMBINE,
    iterated_resampling,
    log_swap,
    multi_try,
    tempered,
)

LOG_VALUES = [0.0, -1.3, 2.2, 0.4, -40.0]


@pytest.mark.parametrize(("log_v", "other"), [*itertools.product(LOG_VALUES, repeat=2)])
def test_one_proposal_is_metropolis_hastings(log_v, other):
    stay, move = multi_try(log_v, [other])
    assert move == pytest.approx(min(1.0, math.exp(other - log_v)), rel=1e-12)
    assert stay == pytest.approx(1 - move, abs=1e-12)
    assert iterated_resampling(log_v, [other])[1] == pytest.approx(
        math.exp(other) / (math.exp(other) + math.exp(log_v)), rel=1e-12
    )


@pytest.mark.parametrize("rule", COMBINE.values(), ids=COMBINE)
@pytest.mark.parametrize("considered", [*itertools.permutations(LOG_VALUES[:4], 4)])
def test_a_move_and_its_reverse_are_in_balance(rule, considered):
    """v(y) P(y -> y_j | the others) = v(y_j) P(y_j -> y | the others), for given others.

    All were drawn from one law, so that this and no more is detailed balance.
    """
    log_v, *proposals = considered
    there = rule(log_v, proposals)
    for j, chosen in enumerate(proposals):
        swapped = list(proposals)
        swapped[j] = log_v
        back = rule(chosen, swapped)[1 + j]
        assert math.exp(log_v) * there[1 + j] == pytest.approx(math.exp(chosen) * back, rel=1e-12)


def test_a_move_by_the_plain_ratio_would_not_be():
    """What multiple tries would be without the sum of all: the planted mistake of this test."""

    def plain(log_v, proposals):
        total = math.fsum(map(math.exp, proposals))
        moves = [math.exp(v) / total * min(1.0, math.exp(v - log_v)) for v in proposals]
        return (1 - math.fsum(moves), *moves)

    there, back = plain(0.0, [1.0, 0.5])[1], plain(1.0, [0.0, 0.5])[1]
    assert abs(there - math.exp(1.0) * back) > 0.05


@pytest.mark.parametrize("rule", COMBINE.values(), ids=COMBINE)
@pytest.mark.parametrize("shift", [0.0, 5000.0, -5000.0])
def test_only_differences_matter_and_nothing_overflows(rule, shift):
    plain = rule(0.3, [1.0, -2.0])
    probs = rule(0.3 + shift, [1.0 + shift, -2.0 + shift])
    assert probs == pytest.approx(plain, rel=1e-9)
    assert math.fsum(probs) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("rule", COMBINE.values(), ids=COMBINE)
def test_far_apart(rule):
    """Differences beyond float64's exponents: everything is certain."""
    assert rule(0.0, [2000.0, -2000.0]) == pytest.approx((0.0, 1.0, 0.0), abs=1e-300)
    assert rule(0.0, [-2000.0, -2000.0]) == (1.0, 0.0, 0.0)
    assert rule(-2000.0, [0.0, 0.0]) == pytest.approx((0.0, 0.5, 0.5), abs=1e-300)


@pytest.mark.parametrize("rule", COMBINE.values(), ids=COMBINE)
def test_excluded_states(rule):
    nowhere = -math.inf
    assert rule(nowhere, [0.0, nowhere]) == (0.0, 1.0, 0.0)
    assert rule(0.0, [nowhere]) == (1.0, 0.0)
    assert rule(nowhere, [nowhere, nowhere]) == (1.0, 0.0, 0.0)


def test_multiple_tries_move_more_often_than_resampling():
    for log_v, *proposals in itertools.permutations(LOG_VALUES, 3):
        stay = multi_try(log_v, proposals)[0]
        assert stay <= iterated_resampling(log_v, proposals)[0] + 1e-15


@pytest.mark.parametrize("factors", [(1.0, 2.0), (1.5, 4.0), (1.0, math.inf), (3.0, math.inf)])
@pytest.mark.parametrize(("one", "other"), [(0.0, 1.0), (1.0, 0.0), (-3.0, 2.5), (0.7, 0.7)])
def test_exchanges_leave_the_product_of_the_targets(factors, one, other):
    def log_product(cold, hot):
        return cold / factors[0] + hot / factors[1]

    there = log_product(one, other) + log_swap(one, other, *factors)
    back = log_product(other, one) + log_swap(other, one, *factors)
    assert there == pytest.approx(back, abs=1e-12)
    assert max(log_swap(one, other, *factors), log_swap(other, one, *factors)) == 0


def test_exchanges_of_excluded_states():
    nowhere = -math.inf
    assert log_swap(0.0, nowhere, 1.0, math.inf) == nowhere
    assert log_swap(nowhere, 0.0, 1.0, 2.0) == nowhere  # the hot replica has the same support
    assert log_swap(nowhere, nowhere, 1.0, 2.0) == nowhere


def test_tempering():
    assert tempered(-3.0, 2.0) == -1.5
    assert tempered(-3.0, math.inf) == 0.0
    assert tempered(-math.inf, math.inf) == -math.inf

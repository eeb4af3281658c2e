"""Intervals and tests over items, against what is known of them."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from eval.analysis import coverage
from eval.analysis.intervals import (
    DIFFERENCE,
    SCORE,
    mean_interval,
    mean_intervals,
    resampled_means,
)
from eval.analysis.items import ItemKey
from eval.analysis.paired import compare, sign_flip_p_value


def of(values, size=1):
    """Items with these values, in clusters of this size."""
    return {ItemKey(f"c{i // size}", f"i{i}"): float(v) for i, v in enumerate(values)}


COIN = of(i % 10 < 3 for i in range(400))


def test_an_interval_of_a_share_is_as_wide_as_theory_says():
    found = mean_interval(COIN, bounds=SCORE)
    half = 1.96 * math.sqrt(0.3 * 0.7 / 400)
    assert found.mean == pytest.approx(0.3)
    assert found.num_items == 400
    assert found.mean - found.low == pytest.approx(half, rel=0.05)
    assert found.high - found.mean == pytest.approx(half, rel=0.05)


def test_a_higher_level_is_wider_and_the_same_call_is_the_same():
    assert mean_interval(COIN) == mean_interval(COIN)
    assert mean_interval(COIN, level=0.99).low < mean_interval(COIN, level=0.8).low


@pytest.mark.parametrize("outcome", coverage.OUTCOMES)
def test_intervals_cover_the_truth(outcome):
    """Of 400 studies; 0.915 is three standard errors below the promised 0.95."""
    found = coverage.simulate(coverage.OUTCOMES[outcome], 400)
    assert found.covered >= 0.915
    assert found.endless == 0


def test_twenty_right_answers_of_twenty_are_not_certain():
    """Wilson's lower end, n_eff / (n_eff + t^2), at n_eff = n^2 / (n + 1) and t of 19 degrees."""
    found = mean_interval(of([1.0] * 20), bounds=SCORE)
    effective = 400 / 21
    assert found.low == pytest.approx(effective / (effective + 2.0930**2), abs=1e-4)
    assert (found.mean, found.high) == (1.0, 1.0)
    none = mean_interval(of([0.0] * 20), bounds=SCORE)
    assert (none.low, none.high) == (0.0, pytest.approx(1 - found.low))


def test_differences_that_are_all_0_are_not_certain():
    found = mean_interval(of([0.0] * 20), bounds=DIFFERENCE)
    assert 0.05 < found.high < 0.2
    assert found.low == pytest.approx(-found.high)


def test_a_single_item_tells_only_the_bounds():
    found = mean_interval(of([0.25]), bounds=SCORE)
    assert (found.mean, found.low, found.high) == (0.25, 0.0, 1.0)
    assert not mean_interval(of([0.25])).is_known


def test_items_count_in_the_mean_and_clusters_in_the_error():
    """Nine items of one cluster are right and one of another is wrong."""
    uneven = {ItemKey("a", f"a{i}"): 1.0 for i in range(9)} | {ItemKey("b", "b0"): 0.0}
    assert mean_interval(uneven, bounds=SCORE).mean == pytest.approx(0.9)
    assert resampled_means([uneven]).mean() == pytest.approx((0.9 + 1.0 + 0.0 + 0.9) / 4, abs=0.02)
    equal = [float(i // 8 % 2) for i in range(160)]  # clusters of 8 equal items
    alone, together = mean_interval(of(equal[::8])), mean_interval(of(equal, size=8))
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high))
    assert together.num_items == 160
    alone, together = (
        mean_interval(of(equal[::8]), bounds=SCORE),
        mean_interval(of(equal, size=8), bounds=SCORE),
    )
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high))


def test_rows_share_their_resamples():
    means = resampled_means([COIN, {key: 2 * one for key, one in COIN.items()}], resamples=300)
    assert means.shape == (2, 300)
    assert np.allclose(means[1], 2 * means[0])
    assert len(set(means[0])) > 10


def test_equal_values_without_bounds_have_no_ends():
    one, other = mean_intervals([of([0.1] * 6), of([0.0, 1.0] * 3)])
    assert one.mean == pytest.approx(0.1)
    assert (one.low, one.high) == (-math.inf, math.inf)
    assert other.low < 0.5 < other.high


def test_pairing_is_by_item():
    one = of(i / 40 + 0.1 for i in range(30))
    other = dict(reversed(of(i / 40 for i in range(30)).items()))
    found = compare(one, {**other, ItemKey("elsewhere", "elsewhere"): 1.0})
    assert found is not None
    assert found.difference.mean == pytest.approx(0.1)
    # the items differ by 0.7; one more difference could be anything
    assert found.difference.high - found.difference.low < 0.2
    assert (found.wins, found.ties, found.losses) == (30, 0, 0)
    assert found.difference.num_items == 30


def test_ties_are_counted_and_rounding_makes_none_differ():
    found = compare(of([1.0, 0.1 + 0.2, 0.0, 1.0]), of([0.0, 0.3, 1.0, 0.0]))
    assert found is not None
    assert (found.wins, found.ties, found.losses) == (2, 1, 1)
    assert compare(of([1.0]), {ItemKey("b", "b"): 1.0}) is None


def test_the_test_flips_clusters():
    """Four clusters of five equal differences are four differences."""
    found = compare(of([1.0] * 20, size=5), of([0.0] * 20, size=5))
    assert found is not None
    assert (found.wins, found.p_value) == (20, pytest.approx(2 / 16))


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1.0] * 5, 2 / 32),
        ([1.0] * 5 + [0.0] * 200, 2 / 32),
        ([1.0, 1.0, 1.0, 0.0, 0.0], 2 / 8),
        ([1.0, 1.0, 1.0, -1.0], 10 / 16),
        ([3.0, 1.0, -1.0], 6 / 8),
        ([0.0, 0.0], 1.0),
        ([1.0], 1.0),
    ],
)
def test_the_sign_flip_test_is_exact_where_few_differ(differences, p):
    assert sign_flip_p_value(differences) == pytest.approx(p)
    assert sign_flip_p_value([-one for one in differences]) == pytest.approx(p)


def test_the_sign_flip_test_of_many_is_near_the_normal_law():
    differences = [1.0] * 60 + [-1.0] * 40
    # P(|S| >= 20) for a sum of 100 signs
    exact = sum(math.comb(100, k) for k in range(101) if abs(2 * k - 100) >= 20) / 2**100
    assert sign_flip_p_value(differences) == pytest.approx(exact, abs=0.015)


def test_the_bootstrap_is_corrected_for_bias_acceleration_and_few_items():
    """Efron 1987, equations (2.3) and (6.6), from the resamples and the jackknife.

    The level is that of Hesterberg 2015: sqrt(20 / 19) times Student's quantile of 19 degrees.
    """
    values = np.array([0.0] * 12 + [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8])
    means = resampled_means([of(values)], resamples=999)[0]
    below = np.mean((means < values.mean()) + 0.5 * (means == values.mean()))
    bias = norm.ppf(below)
    left_out = (values.sum() - values) / (len(values) - 1)
    apart = left_out.mean() - left_out
    acceleration = np.sum(apart**3) / (6 * np.sum(apart**2) ** 1.5)

    def corrected(standard):
        z = bias + standard
        return np.quantile(means, norm.cdf(bias + z / (1 - acceleration * z)))

    found = mean_interval(of(values), resamples=999)
    standard = math.sqrt(20 / 19) * 2.0930
    assert found.high == pytest.approx(corrected(standard), rel=1e-3)
    # the lower end is Student's, which is below the bootstrap's
    student = values.mean() - 2.0930 * values.std(ddof=1) / math.sqrt(20)
    assert found.low == pytest.approx(student, rel=1e-4)
    assert student < corrected(-standard)

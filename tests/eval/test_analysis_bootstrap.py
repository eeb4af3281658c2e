"""Intervals and tests over items, against what is known of them."""

import math

import numpy as np
import pytest
from scipy.stats import expon, norm

from eval.analysis.bootstrap import mean_interval, mean_intervals, resampled_means
from eval.analysis.paired import compare, sign_flip_p_value

COIN = [float(i % 10 < 3) for i in range(400)]


def test_an_interval_of_a_share_is_as_wide_as_theory_says():
    found = mean_interval(COIN)
    half = 1.96 * math.sqrt(0.3 * 0.7 / 400)
    assert found.mean == pytest.approx(0.3)
    assert found.num_items == 400
    assert found.mean - found.low == pytest.approx(half, rel=0.12)
    assert found.high - found.mean == pytest.approx(half, rel=0.12)


def test_a_higher_level_is_wider_and_the_same_call_is_the_same():
    assert mean_interval(COIN) == mean_interval(COIN)
    assert mean_interval(COIN, level=0.99).low < mean_interval(COIN, level=0.8).low


def test_intervals_cover_the_truth_as_often_as_they_say():
    """200 samples of a skewed law; at a coverage of 0.87 or more, 160 is three sigma away."""
    samples = expon.rvs(size=(200, 60), random_state=0)
    found = [mean_interval(list(sample), level=0.9, resamples=400) for sample in samples]
    covered = sum(not one.excludes(1.0) for one in found)
    assert 160 <= covered <= 196


def test_rows_share_their_resamples():
    means = resampled_means([COIN, [2 * one for one in COIN]], resamples=300)
    assert means.shape == (2, 300)
    assert np.allclose(means[1], 2 * means[0])
    assert len(set(means[0])) > 10


def test_values_that_are_all_equal_have_no_width():
    one, other = mean_intervals([[0.5] * 6, [0.0, 1.0] * 3])
    assert (one.mean, one.low, one.high) == (0.5, 0.5, 0.5)
    assert other.low < 0.5 < other.high


def test_pairing_is_by_item():
    one = {f"i{i}": i + 0.1 for i in range(30)}
    other = {f"i{i}": float(i) for i in reversed(range(30))}
    found = compare(one, {**other, "elsewhere": 100.0})
    assert found is not None
    assert found.difference.mean == pytest.approx(0.1)
    assert found.difference.high - found.difference.low < 1e-6  # though the items differ widely
    assert (found.wins, found.ties, found.losses) == (30, 0, 0)
    assert found.difference.num_items == 30


def test_ties_are_counted_and_rounding_makes_none_differ():
    found = compare(
        {"a": 1.0, "b": 0.1 + 0.2, "c": 0.0, "d": 1.0}, {"a": 0.0, "b": 0.3, "c": 1.0, "d": 0.0}
    )
    assert found is not None
    assert (found.wins, found.ties, found.losses) == (2, 1, 1)
    assert compare({"a": 1.0}, {"b": 1.0}) is None


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


def test_the_interval_is_corrected_for_bias_and_acceleration():
    """Efron 1987, equations (2.3) and (6.6), from the resamples and the jackknife."""
    values = np.array([0.0] * 12 + [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8])
    means = resampled_means([list(values)], resamples=999)[0]
    below = np.mean((means < values.mean()) + 0.5 * (means == values.mean()))
    bias = norm.ppf(below)
    left_out = (values.sum() - values) / (len(values) - 1)
    apart = left_out.mean() - left_out
    acceleration = np.sum(apart**3) / (6 * np.sum(apart**2) ** 1.5)

    def corrected(level):
        z = bias + norm.ppf(level)
        return np.quantile(means, norm.cdf(bias + z / (1 - acceleration * z)))

    found = mean_interval(list(values), resamples=999)
    assert found.low == pytest.approx(corrected(0.025), rel=1e-3)
    assert found.high == pytest.approx(corrected(0.975), rel=1e-3)
    plain = np.quantile(means, (0.025, 0.975))
    assert found.low > plain[0] * 1.1
    assert found.high > plain[1] * 1.1

"""Order statistics of a pool, against every subset and every order of it."""

import itertools
import math
from statistics import fmean

import pytest

from eval.analysis import pools
from eval.analysis.length import length_correlation
from eval.analysis.over_optimisation import best_of_curve
from eval.analysis.verifier import evaluate_verifiers

REWARDS = [1.0, 3.0, 3.0, -2.0, 0.5, 3.0]
SCORES = [0.0, 1.0, 0.0, 1.0, 0.5, 0.0]


def record(rewards, scores, item="a", lengths=None):
    lengths = lengths or [10] * len(rewards)
    return {
        "item": item,
        "candidates": [
            {"reward": reward, "score": score, "num_tokens": length}
            for reward, score, length in zip(rewards, scores, lengths, strict=True)
        ],
    }


def first_of_highest(order):
    return max(order, key=lambda i: (REWARDS[i], -order.index(i)))


@pytest.mark.parametrize("n", range(1, 7))
def test_best_of_n_is_the_mean_over_all_ordered_draws(n):
    picked = [SCORES[first_of_highest(order)] for order in itertools.permutations(range(6), n)]
    assert pools.best_of(REWARDS, SCORES, n) == pytest.approx(fmean(picked))
    highest = [max(REWARDS[i] for i in some) for some in itertools.combinations(range(6), n)]
    assert pools.best_of(REWARDS, REWARDS, n) == pytest.approx(fmean(highest))


@pytest.mark.parametrize(("right", "size", "n"), [(3, 10, 4), (0, 5, 2), (5, 5, 1), (1, 256, 200)])
def test_the_oracle_is_pass_at_n(right, size, n):
    scores = [1.0] * right + [0.0] * (size - right)
    expected = 1 - math.comb(size - right, n) / math.comb(size, n)
    assert pools.best_of(scores, scores, n) == pytest.approx(expected)
    assert pools.any_accepted(right, size)[n - 1] == pytest.approx(expected)


def test_large_pools_do_not_overflow():
    rewards = [float(i) for i in range(1024)]
    assert pools.best_of(rewards, rewards, 512) == pytest.approx(512 * 1025 / 513 - 1)


def test_the_peak_is_where_the_reward_begins_to_mislead():
    """The highest reward of all is a mistake, the next ones are right, the rest is mostly wrong."""
    rewards = [10.0, *[5.0 - i for i in range(3)], *[-float(i) for i in range(12)]]
    scores = [0.0, 1.0, 1.0, 1.0, *[0.0] * 12]
    curve = best_of_curve([record(rewards, scores, item) for item in "abcd"])
    assert [point.n for point in curve.points] == [1, 2, 4, 8, 16]
    means = [
        fmean(
            scores[max(some, key=rewards.__getitem__)]
            for some in itertools.combinations(range(16), point.n)
        )
        for point in curve.points
    ]
    assert [point.score.mean for point in curve.points] == pytest.approx(means)
    assert curve.peak == curve.points[means.index(max(means))].n
    assert 1 < curve.peak < 16
    assert curve.peak_range == (curve.peak, curve.peak)
    assert curve.turned == 1.0
    assert curve.points[-1].oracle.mean == 1.0
    assert curve.points[-1].reward.mean == 10.0
    assert curve.points[2].tokens == 40


def test_a_peak_that_depends_on_the_items_is_a_range():
    misled = record([2.0, 1.0], [0.0, 1.0])
    helped = record([2.0, 1.0], [1.0, 0.0])
    items = [{**(misled if i % 2 else helped), "item": str(i)} for i in range(20)]
    curve = best_of_curve(items)
    assert curve.peak_range == (1, 2)
    assert 0.2 < curve.turned < 0.8
    assert best_of_curve([record([], [])]) is None


def test_ungradable_candidates_are_no_success():
    curve = best_of_curve([record([1.0, 2.0], [None, None])])
    assert [point.oracle.mean for point in curve.points] == [0.0, 0.0]


def test_the_verifier_is_the_first_that_passes_in_every_order():
    rewards, scores = [4.0, 3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0, 1.0]
    other = [0.0] * 5
    found = evaluate_verifiers(
        [record(rewards, scores, "a"), record(other, scores, "b")], quantiles=(0.65,), penalty=2.0
    )[0]
    assert found.threshold == 1.0
    assert found.false_positive_rate == 2 / 4
    assert found.true_positive_rate == 2 / 6
    assert found.wrong_share == 2 / 4
    assert (found.answered, found.accuracy) == (0.5, 0.25)

    def utility(n):
        worth = []
        for order in itertools.permutations(range(5), n):
            passed = [i for i in order if rewards[i] >= 1.0]
            worth.append((1.0 if scores[passed[0]] else -2.0) if passed else 0.0)
        return fmean(worth) / 2  # nothing passes in the other pool

    utilities = [0.0, *map(utility, range(1, 6))]
    assert found.sample_cap == utilities.index(max(utilities)) == 0
    assert found.full_utility == pytest.approx(utilities[-1])


def test_more_draws_may_do_harm():
    """One item is answered rightly at once; in the other only mistakes pass, and rarely."""
    easy = record([1.0] * 8, [1.0] * 8, "easy")
    hard = record([1.0, *[0.0] * 7], [0.0] * 8, "hard")
    found = evaluate_verifiers([easy, hard], quantiles=(0.6,))[0]
    assert found.false_positive_rate == 1 / 8
    assert found.sample_cap == 1
    assert found.utility == pytest.approx((1 - 1 / 8) / 2)
    assert found.full_utility == 0.0
    lenient = evaluate_verifiers([easy, hard], quantiles=(0.6,), penalty=0.0)[0]
    assert lenient.utility == lenient.full_utility == 0.5


def test_length_is_correlated_within_items():
    """Long items have low rewards, and long candidates of an item have high ones."""
    short = record([5.0, 6.0, 7.0], [0.0, 0.0, 1.0], "short", lengths=[1, 2, 3])
    long = record([1.0, 2.0, 3.0], [1.0, 1.0, 1.0], "long", lengths=[11, 12, 13])
    found = length_correlation([short, long])
    assert found.reward.mean == pytest.approx(1.0)
    assert found.reward.num_items == 2
    assert found.score.num_items == 1  # the other's scores are all equal
    assert found.score.mean == pytest.approx(math.sqrt(3) / 2)
    assert length_correlation([record([1.0, 1.0], [0.0, 1.0])]).reward is None


def test_the_cap_is_where_the_utility_is_greatest_however_little_is_gained():
    """Of 400 items one gains by a second draw: 1 / 800 of a right answer."""
    sure = [record([1.0, 1.0], [1.0, 1.0], f"sure {i}") for i in range(399)]
    late = record([1.0, 0.0], [1.0, 0.0], "late")
    found = evaluate_verifiers([*sure, late], quantiles=(0.5,))[0]
    assert found.threshold == 1.0
    assert found.utility == found.full_utility == 1.0
    assert found.sample_cap == 2


def test_the_range_of_the_peak_has_the_level_of_all_intervals():
    """Where the peak moves in about seven resamples of a hundred: 95 % has it, 90 % has not."""
    misled, helped = record([2.0, 1.0], [0.0, 1.0]), record([2.0, 1.0], [1.0, 0.0])
    found = {}
    for num_helped in range(5, 20):
        kinds = [helped] * num_helped + [misled] * (20 - num_helped)
        records = [{**one, "item": f"{i:02}"} for i, one in enumerate(kinds)]
        curve = best_of_curve(records)
        rare = min(curve.turned, 1 - curve.turned)
        if 0.03 < rare < 0.045:
            found[num_helped] = curve
    assert found
    for curve in found.values():
        assert curve.peak_range == (1, 2)

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsalign.selectors.estimators import (
    best_of_kl,
    chi_squared_depth,
    effective_sample_size,
    pool_kl,
    tilted_weights,
    top_kl,
)

rewards = st.lists(st.floats(-50, 50), min_size=1, max_size=12)
scales = st.floats(0.05, 20)
pools = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3)), min_size=1, max_size=10).filter(
    lambda pool: sum(weight for weight, _ in pool) > 1e-3
)


@given(rewards, scales)
def test_tilted_weights_are_a_softmax(values, temperature):
    weights = tilted_weights(values, temperature)
    assert math.fsum(weights) == pytest.approx(1)
    for one, w in zip(values, weights, strict=True):
        for other, v in zip(values, weights, strict=True):
            if min(w, v) > 1e-200:
                ratio = math.log(w) - math.log(v)
                assert ratio == pytest.approx((one - other) / temperature, abs=1e-6)


@given(rewards, scales, st.floats(-1e3, 1e3))
def test_a_shift_of_rewards_changes_nothing(values, temperature, shift):
    shifted = tilted_weights([value + shift for value in values], temperature)
    assert shifted == pytest.approx(tilted_weights(values, temperature), abs=1e-9)


def test_no_reward_is_too_large():
    assert tilted_weights([1e308, -1e308, 1e308], 1e-3) == (0.5, 0.0, 0.5)


@given(st.lists(st.floats(1e-3, 1), min_size=1, max_size=12), st.floats(1e-200, 1e100))
def test_effective_sample_size(weights, scale):
    size = effective_sample_size([weight * scale for weight in weights])
    assert 1 - 1e-9 <= size <= len(weights) + 1e-9
    assert size == pytest.approx(sum(weights) ** 2 / sum(w * w for w in weights))
    assert effective_sample_size([weights[0]] * 7) == pytest.approx(7)
    assert effective_sample_size([*weights[:1], 0.0]) == 1


@given(pools)
def test_pool_kl(pool):
    total = sum(weight for weight, _ in pool)
    probs, responses = [w / total for w, _ in pool], [y for _, y in pool]
    kl, n = pool_kl(probs, responses), len(pool)
    apart = pool_kl(probs, range(n))
    assert apart == pytest.approx(
        max(0.0, math.log(n) + sum(p * math.log(p) for p in probs if p)), abs=1e-9
    )
    assert 0 <= kl <= apart + 1e-9 <= math.log(n) + 2e-9  # one response twice is less news
    selected = {
        y: sum(p for p, z in zip(probs, responses, strict=True) if z == y) for y in responses
    }
    share = {y: responses.count(y) / n for y in responses}
    right = sum(p * math.log(p / share[y]) for y, p in selected.items() if p)
    assert kl == pytest.approx(right, abs=1e-9)


def test_pool_kl_of_special_pools():
    assert pool_kl([1.0, 0.0, 0.0], "abc") == pytest.approx(math.log(3))
    assert pool_kl([1.0, 0.0, 0.0], "aaa") == 0
    assert pool_kl([0.25] * 4, "abcd") == 0


@pytest.mark.parametrize("n", [1, 2, 5, 64])
def test_best_of_kl_is_that_of_the_highest_rank(n):
    """The midpoint rule on n u^(n-1) ln(n u^(n-1)); its error is below 1e-4 at these n."""
    steps = 20_000
    points = ((i + 0.5) / steps for i in range(steps))
    densities = [n * u ** (n - 1) for u in points]
    kl = sum(g * math.log(g) for g in densities if g > 0) / steps
    assert best_of_kl(n) == pytest.approx(kl, abs=1e-4)


@pytest.mark.parametrize(("n", "kept"), [(1, 1), (4, 1), (4, 2), (9, 4)])
def test_top_kl_bounds_that_of_a_high_rank(n, kept):
    """A rank u is among the best `kept` of n if fewer than `kept` of n - 1 others exceed it."""
    steps = 2_000
    kl = 0.0
    for i in range(steps):
        u = (i + 0.5) / steps
        few = sum(math.comb(n - 1, j) * (1 - u) ** j * u ** (n - 1 - j) for j in range(kept))
        density = n / kept * few
        kl += density * math.log(density) / steps if density else 0
    assert kl <= top_kl(n, kept) + 1e-9
    if kept == 1:
        assert kl == pytest.approx(best_of_kl(n), abs=1e-2)


@given(rewards, scales)
def test_chi_squared_depth_normalises_its_weights(values, beta):
    low = max(values) - chi_squared_depth(values, beta)
    mean = math.fsum(max(0.0, value - low) for value in values) / len(values)
    assert mean == pytest.approx(beta, rel=1e-9, abs=1e-9)
    assert low < max(values)

"""Combinations have the values their formulas say, and are rewards themselves."""

import asyncio
import math
import pickle
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsalign import BestOf, ConfigError, Message, Plain, Prompt, Response, RewardError, Stop, align
from rsalign.core.protocols import Reward, Scored
from rsalign.rewards.combine import (
    BradleyTerry,
    Capped,
    Direction,
    WeightedSum,
    reference_value,
)
from rsalign.rewards.wrappers import Cached, Metered
from rsalign.testing import ToyPolicy, ToyReward, check_reward, law_of

PROMPT = Prompt((Message("user", "1"),), (1,))
RESPONSE = Response((1, 2, 0), "1 2", Stop.EOS)
EXAMPLES = [
    (PROMPT, Response((1, 2), "1 2", Stop.BOUNDARY)),
    (PROMPT, Response((1, 0), "1", Stop.EOS)),
    (PROMPT, Response((), "", None)),
]
finite = st.floats(-1e6, 1e6)
plain = st.integers(-(2**20), 2**20).map(lambda i: i / 1024)  # no factor makes them vanish


@dataclass(frozen=True)
class Constant:
    """Says the same of everything, at a cost."""

    value: float
    tokens: int = 0
    cached_tokens: int = 0

    async def score(self, prompt, response):
        return Scored(self.value, tokens=self.tokens, cached_tokens=self.cached_tokens)


def score(reward, response=RESPONSE):
    return asyncio.run(reward.score(PROMPT, response))


COMBINATIONS = [
    WeightedSum([ToyReward(1), ToyReward(2)], [0.5, -2]),
    Direction([ToyReward(1), ToyReward(2)], [3, 4]),
    BradleyTerry(ToyReward(1), 0.25),
    Capped(ToyReward(1), 0.5),
    WeightedSum(
        [BradleyTerry(ToyReward(1), 0), Capped(Direction([ToyReward(2)], [-1]), 1)], [1, 1]
    ),
]


@pytest.mark.parametrize("reward", COMBINATIONS, ids=repr)
def test_conformance(reward):
    assert isinstance(reward, Reward)
    assert pickle.loads(pickle.dumps(reward)) == reward
    hash(reward)
    asyncio.run(check_reward(reward, EXAMPLES, tolerance=0))


def test_exact_values():
    a, b = Constant(3.0), Constant(-1.0)
    assert score(WeightedSum([a, b], [2, 0.5])) == 5.5
    assert score(Direction([a, b], [3, 4])) == pytest.approx(0.6 * 3 - 0.8, abs=1e-15)
    assert score(BradleyTerry(a, 3)) == -math.log(2)
    assert score(BradleyTerry(a, 3 - math.log(3))) == pytest.approx(math.log(3 / 4), abs=1e-15)
    assert score(Capped(a, 2.5)) == 2.5
    assert score(Capped(b, 2.5)) == -1


def test_costs_add_up():
    parts = [Constant(1, tokens=5, cached_tokens=2), Constant(2, tokens=7, cached_tokens=3)]
    free = ToyReward()
    for reward in (WeightedSum([*parts, free], [1, 1, 1]), Direction([*parts, free], [1, 0, 0])):
        value = score(reward)
        assert (value.tokens, value.cached_tokens) == (12, 5)
    for reward in (BradleyTerry(parts[0], 0), Capped(parts[0], 0)):
        value = score(reward)
        assert (value.tokens, value.cached_tokens) == (5, 2)


def test_components_are_asked_at_once():
    """Each waits for the other: one after another they would never answer."""
    met = []

    class Meets:
        async def score(self, prompt, response):
            met.append(self)
            while len(met) < 2:
                await asyncio.sleep(0)
            return 1.0

    assert score(WeightedSum([Meets(), Meets()], [1, 2])) == 3


def test_a_reward_in_two_components_can_be_asked_once():
    asked = Metered(ToyReward())
    shared = Cached(asked)
    both = WeightedSum([BradleyTerry(shared, 0), Capped(shared, 1)], [1, 1])
    score(both)
    assert asked.statistics().calls == 1


@given(st.lists(st.tuples(plain, plain), min_size=1, max_size=6), st.floats(1e-3, 1e3))
def test_a_direction_has_length_one_and_no_other_length_matters(pairs, factor):
    values, entries = zip(*pairs, strict=True)
    rewards = [Constant(value) for value in values]
    if not any(entries):
        with pytest.raises(ConfigError, match="points nowhere"):
            Direction(rewards, entries)
        return
    one = Direction(rewards, entries)
    other = Direction(rewards, [factor * entry for entry in entries])
    assert math.hypot(*one.direction) == pytest.approx(1, abs=1e-12)
    assert score(one) == pytest.approx(score(other), abs=1e-6)
    length = math.hypot(*values)
    assert abs(score(one)) <= length * (1 + 1e-12) + 1e-12  # Cauchy-Schwarz


@pytest.mark.parametrize("entries", [(1e300, 1e300), (5e-324, 5e-324), (-1e-200, 1e-200)])
def test_directions_of_extreme_length(entries):
    assert math.hypot(*Direction([ToyReward(), ToyReward()], entries).direction) == pytest.approx(1)


@given(finite, finite)
def test_bradley_terry_is_a_log_probability(value, reference):
    better = score(BradleyTerry(Constant(value), reference))
    worse = score(BradleyTerry(Constant(reference), value))
    assert better <= 0
    assert math.exp(better) + math.exp(worse) == pytest.approx(1, abs=1e-12)


@given(st.lists(st.tuples(st.floats(-20, 20), st.floats(-20, 20)), min_size=1, max_size=5))
def test_the_sum_is_the_log_probability_of_good_in_all(pairs):
    parts = [BradleyTerry(Constant(value), reference) for value, reference in pairs]
    together = score(WeightedSum(parts, [1] * len(parts)))
    product = math.prod(1 / (1 + math.exp(reference - value)) for value, reference in pairs)
    assert math.exp(together) == pytest.approx(product, rel=1e-9)


@given(finite, finite)
def test_a_cap_is_a_minimum(value, cap):
    assert score(Capped(Constant(value), cap)) == min(value, cap)


@given(st.lists(finite, min_size=1, max_size=20), st.floats(0, 1))
def test_the_reference_is_a_quantile(rewards, quantile):
    import numpy as np

    expected = float(np.quantile(rewards, quantile))
    assert reference_value(rewards, quantile=quantile) == pytest.approx(expected, abs=1e-6)
    assert reference_value(rewards, quantile=0) == min(rewards)
    assert reference_value(rewards, quantile=1) == max(rewards)


def test_a_combination_changes_the_answer_as_its_formula_says():
    """Best of 2 under the sum, against its order statistics: F(r)^2 - F(r-)^2."""
    policy, parts = ToyPolicy(3), [ToyReward(3), ToyReward(4)]
    inner = law_of(Plain(max_tokens=2), policy, parts[0], PROMPT)
    exact = law_of(
        BestOf(n=2, inner=Plain(max_tokens=2)), policy, WeightedSum(parts, [1, -2]), PROMPT
    )

    def total(tokens):
        return parts[0].value(tokens) - 2 * parts[1].value(tokens)

    for tokens, p in exact.items():
        below = sum(q for other, q in inner.items() if total(other) < total(tokens))
        assert p == pytest.approx((below + inner[tokens]) ** 2 - below**2, abs=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, "1", None])
@pytest.mark.parametrize(
    "combine",
    [
        lambda reward: WeightedSum([ToyReward(), reward], [1, 1]),
        lambda reward: Direction([reward], [1]),
        lambda reward: BradleyTerry(reward, 0),
        lambda reward: Capped(reward, 0),
    ],
)
def test_a_component_that_is_no_number_is_named_and_not_hidden(combine, bad):
    class Broken:
        async def score(self, prompt, response):
            return bad

    with pytest.raises(RewardError, match=r"by Broken is .* must be a finite number") as failed:
        score(combine(Broken()))
    assert failed.value.response == RESPONSE


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WeightedSum([], []), "at least 1 reward"),
        (lambda: WeightedSum([len], [1]), "a reward: .*FunctionReward"),
        (lambda: WeightedSum([ToyReward()], [1, 2]), "as many as there are rewards"),
        (lambda: WeightedSum([ToyReward()], [math.nan]), "item 0 is nan"),
        (lambda: WeightedSum([ToyReward()], ["1"]), "item 0 is '1'"),
        (lambda: Direction([ToyReward()], [0.0]), "points nowhere"),
        (lambda: Direction([ToyReward()], [math.inf]), "item 0 is inf"),
        (lambda: Direction([ToyReward()], []), "as many as there are rewards"),
        (lambda: BradleyTerry(ToyReward(), math.nan), "reference=nan"),
        (lambda: BradleyTerry(None, 0), "give a reward"),
        (lambda: Capped(ToyReward(), math.inf), "cap=inf"),
        (lambda: reference_value([], quantile=0.5), "at least 1 reward"),
        (lambda: reference_value([1, math.nan], quantile=0.5), "all of them finite"),
        (lambda: reference_value([1], quantile=1.5), "between 0 and 1"),
    ],
)
def test_what_cannot_work_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_closing_closes_all_components_even_if_one_fails():
    closed = []

    class Closing(ToyReward):
        def close(self):
            closed.append(self)
            if len(closed) == 1:
                raise OSError("stuck")

    reward = WeightedSum([Closing(1), BradleyTerry(Closing(2), 0), ToyReward(3)], [1, 1, 1])
    with pytest.raises(OSError, match="stuck"):
        reward.close()
    assert {part.salt for part in closed} == {1, 2}


def test_fingerprints_tell_settings_and_parts_apart():
    names = {reward.fingerprint for reward in COMBINATIONS}
    assert len(names) == len(COMBINATIONS)
    assert Capped(ToyReward(1), 1).fingerprint == Capped(ToyReward(1), 1.0).fingerprint
    assert Capped(ToyReward(1), 1).fingerprint != Capped(ToyReward(1), 2).fingerprint


def test_a_budget_counts_the_tokens_of_all_components():
    reward = WeightedSum([Constant(1, tokens=5), Constant(2, tokens=7)], [1, 1])
    result = asyncio.run(
        align(PROMPT, BestOf(n=3, inner=Plain(max_tokens=2)), policy=ToyPolicy(), reward=reward)
    )
    assert result.usage.reward_calls == 3
    assert result.usage.reward_tokens == 36

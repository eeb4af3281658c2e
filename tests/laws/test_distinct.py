"""Distinct: the law of draws without replacement, and means that are exactly unbiased."""

import asyncio
import itertools
import math
from collections import defaultdict

import pytest
from selector_law import PROMPT, first_word

from rsalign import ConfigError, Distinct, Key, Run
from rsalign.selectors import ByWeight, Hard, MajorityVote, SelfCertainty
from rsalign.selectors.without_replacement import first_draw_weights
from rsalign.strategies import distinct as module
from rsalign.testing import ToyPolicy, ToyReward, distance, law, law_of, responses

LONGEST = 2  # three responses of a vocabulary of two tokens
SHAPES = [(1, 1), (2, 2), (2, 4), (3, 3), (3, 5)]


def runs(strategy, policy, reward):
    """P(answers in order, their weights), by enumeration."""

    async def run_once(key):
        run = Run(policy, reward, key)
        await strategy.sample(PROMPT, run)
        notes = run.trace.notes
        pool = tuple(p.candidate.tokens for p in run.trace.proposals)
        return pool, notes["weights"], notes["num_draws"], notes["mean_reward"]

    return law(run_once)


def sequences(base, n, most):
    """The same by following every sequence of draws: P(different answers, in order)."""
    found = defaultdict(float)

    def grow(seen, num, mass):
        if len(seen) == min(n, len(base)) or num == most:
            found[seen] += mass
            return
        for y, p in base.items():
            grow(seen if y in seen else (*seen, y), num + 1, mass * p)

    grow((), 0, 1.0)
    return found


@pytest.mark.parametrize("salt", range(2))
@pytest.mark.parametrize(("n", "most"), SHAPES)
def test_the_law_and_unbiased_means(n, most, salt):
    policy, reward = ToyPolicy(2, salt), ToyReward(salt)
    base = responses(policy, PROMPT.tokens, LONGEST)
    strategy = Distinct(n=n, max_draws=most, max_tokens=LONGEST)
    found = runs(strategy, policy, reward)
    pools, means, reward_mean = defaultdict(float), defaultdict(float), 0.0
    for (pool, weights, _, mean_reward), mass in found.items():
        pools[pool] += mass
        reward_mean += mass * mean_reward
        assert math.isclose(sum(weights), 1.0)
        for y, weight in zip(pool, weights, strict=True):
            means[y] += mass * weight
    assert distance(pools, sequences(base, n, most)) < 1e-12
    assert distance(means, base) < 1e-12  # whatever the cap
    assert reward_mean == pytest.approx(sum(p * reward.value(y) for y, p in base.items()))


@pytest.mark.parametrize("salt", range(2))
def test_a_draw_by_weight_is_a_draw_of_the_policy(salt):
    policy = ToyPolicy(2, salt)
    strategy = Distinct(n=2, max_draws=3, max_tokens=LONGEST, select=ByWeight())
    found = law_of(strategy, policy, ToyReward(salt), PROMPT)
    assert distance(found, responses(policy, PROMPT.tokens, LONGEST)) < 1e-12


@pytest.mark.parametrize("salt", range(2))
def test_the_best_of_different_answers(salt):
    policy, reward = ToyPolicy(2, salt), ToyReward(salt)
    base = responses(policy, PROMPT.tokens, LONGEST)
    expected = defaultdict(float)
    for pool, mass in sequences(base, 2, 4).items():
        expected[max(pool, key=reward.value)] += mass
    strategy = Distinct(n=2, max_draws=4, max_tokens=LONGEST, select=Hard())
    assert distance(law_of(strategy, policy, reward, PROMPT), expected) < 1e-12


@pytest.mark.parametrize("salt", range(2))
def test_votes_are_weighed(salt):
    policy, reward = ToyPolicy(2, salt), ToyReward(salt)
    strategy = Distinct(
        n=2,
        max_draws=3,
        max_tokens=LONGEST,
        select=MajorityVote(extract=first_word, ties="first"),
    )
    expected = defaultdict(float)
    for pool, mass in sequences(responses(policy, PROMPT.tokens, LONGEST), 2, 3).items():
        probs = [responses(policy, PROMPT.tokens, LONGEST)[y] for y in pool]
        weights = by_permutations(probs, 3, ended=len(pool) == 2)
        words = [first_word(policy.text(y)) for y in pool]
        able = [w for w in dict.fromkeys(words) if w is not None] or [None]
        shares = {a: sum(w for w, o in zip(weights, words, strict=True) if o == a) for a in able}
        best = max(able, key=shares.__getitem__)
        expected[
            max((y for y, w in zip(pool, words, strict=True) if w == best), key=reward.value)
        ] += mass
    assert distance(law_of(strategy, policy, reward, PROMPT), expected) < 1e-12


def by_permutations(probs, most, *, ended):
    """P(first | set), from all sequences of draws."""
    first = [0.0] * len(probs)
    for length in range(len(probs), most + 1):
        for draws in itertools.product(range(len(probs)), repeat=length):
            whole = set(draws) == set(range(len(probs)))
            early = len(set(draws[:-1])) == len(probs)
            if whole and (not early if ended else length == most):
                first[draws[0]] += math.prod(probs[i] for i in draws)
    return [one / sum(first) for one in first]


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("probs", [(0.3,), (0.5, 0.2), (0.1, 0.2, 0.3), (0.6, 1e-9, 0.3)])
def test_weights(probs, ended):
    for most in (len(probs), len(probs) + 3):
        found = first_draw_weights(probs, max_draws=most, ended=ended)
        assert found == pytest.approx(by_permutations(probs, most, ended=ended), rel=1e-9)


def test_without_a_cap_they_are_murthys():
    probs = (0.4, 0.1, 0.25)

    def ordered(order):
        left, mass = 1.0, 1.0
        for i in order:
            mass, left = mass * probs[i] / left, left - probs[i]
        return mass

    orders = {order: ordered(order) for order in itertools.permutations(range(3))}
    expected = [
        sum(mass for order, mass in orders.items() if order[0] == i) / sum(orders.values())
        for i in range(3)
    ]
    assert first_draw_weights(probs, max_draws=256, ended=True) == pytest.approx(expected, rel=1e-9)


def test_probabilities_that_exceed_one_by_rounding():
    weights = first_draw_weights((0.7, 0.3 + 1e-7), max_draws=256, ended=True)
    assert weights == pytest.approx((0.7, 0.3), abs=1e-6)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="give a whole number of at least n=8"):
        Distinct(n=8, max_draws=7)
    with pytest.raises(ConfigError, match="use BestOf"):
        Distinct(select=SelfCertainty(extract=first_word))

    class Silent(ToyPolicy):
        tells_log_probs = False

    with pytest.raises(ConfigError, match="Silent does not tell the probability"):
        asyncio.run(Distinct(n=2).sample(PROMPT, Run(Silent(), ToyReward(), Key(0))))


# planted mistakes


def equal_weights(probs, *, max_draws, ended):
    return tuple(1 / len(probs) for _ in probs)


def normalised_probabilities(probs, *, max_draws, ended):
    return tuple(p / sum(probs) for p in probs)


def without_the_cap(probs, *, max_draws, ended):
    return first_draw_weights(probs, max_draws=256, ended=True)


@pytest.mark.parametrize("wrong", [equal_weights, normalised_probabilities, without_the_cap])
def test_planted_mistakes(wrong, monkeypatch):
    """Wrong weights are a bias."""
    monkeypatch.setattr(module, "first_draw_weights", wrong)
    policy = ToyPolicy(2, 0)
    strategy = Distinct(n=2, max_draws=3, max_tokens=LONGEST, select=ByWeight())
    found = law_of(strategy, policy, ToyReward(), PROMPT)
    assert distance(found, responses(policy, PROMPT.tokens, LONGEST)) > 1e-3

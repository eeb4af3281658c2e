"""The law of best-of-n with selectors that look at rewards or ask a judge, in closed form.

`Toys` is irregular in everything, and its coarse reward has many ties.
"""

import itertools
import math
from dataclasses import dataclass

import pytest
from selector_law import CLOSE, PROMPT, CoarseReward, Toys, each_n, each_toy, first_word

from rsalign import BestOf, Key, Run
from rsalign.selectors import (
    BestOfMajority,
    ChiSquaredPessimism,
    ConfidenceWeightedVote,
    Hard,
    Knockout,
    MajorityVote,
    MinimumBayesRisk,
    RewardWeightedVote,
    Soft,
    TopFraction,
)
from rsalign.selectors.utilities import Rouge1
from rsalign.testing import ToyReward, distance, law


def of_ranks(base, value, n, kept):
    """The j-th highest of n is at most r if fewer than j exceed r; the mean over j <= kept."""

    def at_most(mass, j):
        return sum(math.comb(n, i) * (1 - mass) ** i * mass ** (n - i) for i in range(j))

    total = dict.fromkeys(base, 0.0)
    for y, p in base.items():
        below = math.fsum(q for z, q in base.items() if value(z) < value(y))
        same = math.fsum(q for z, q in base.items() if value(z) == value(y))
        for j in range(1, kept + 1):
            total[y] += p / same * (at_most(min(1, below + same), j) - at_most(below, j)) / kept
    return total


@each_toy
@each_n
def test_hard(toys, n):
    assert distance(toys.law(n, Hard()), of_ranks(toys.base, toys.value, n, 1)) < CLOSE
    assert BestOf(n=n).select == Hard()


@each_toy
@pytest.mark.parametrize(("n", "m", "kept"), [(2, 1, 2), (3, 2, 2), (3, 1.2, 3), (3, 3, 1)])
def test_top_fraction(toys, n, m, kept):
    right = of_ranks(toys.base, toys.value, n, kept)
    assert distance(toys.law(n, TopFraction(m=m)), right) < CLOSE


def softly(toys, n, temperature):
    """By symmetry n times the law of the first candidate."""
    base, w = toys.base, {y: math.exp(toys.value(y) / temperature) for y in toys.base}
    total = {}
    for y in base:
        total[y] = n * math.fsum(
            math.prod(base[z] for z in (y, *others)) * w[y] / (w[y] + sum(w[z] for z in others))
            for others in itertools.product(base, repeat=n - 1)
        )
    return total


@each_toy
@each_n
@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_soft(toys, n, temperature):
    found = toys.law(n, Soft(temperature=temperature))
    assert distance(found, softly(toys, n, temperature)) < CLOSE
    w = {y: p * math.exp(toys.value(y) / temperature) for y, p in toys.base.items()}
    tilted = {y: mass / sum(w.values()) for y, mass in w.items()}
    chi2 = sum(p * p / toys.base[y] for y, p in tilted.items()) - 1
    kl = sum(p * math.log(p / found[y]) for y, p in tilted.items())
    assert kl <= math.log1p(chi2 / n) + CLOSE  # the bound of the docstring


@each_toy
@pytest.mark.parametrize("n", [1, 2])
def test_pessimism_without_fresh_draws_is_the_policy(toys, n):
    assert distance(toys.law(n, ChiSquaredPessimism(beta=0.4)), toys.base) < CLOSE


def pessimistically(toys, beta, bound):
    """n = 3: relu((r_1 - lambda) / beta) = 1, so lambda = r_1 - beta; then one trial."""
    total = dict.fromkeys(toys.base, 0.0)
    for first, p in toys.base.items():
        low = toys.value(first) - beta
        top = toys.value(first) if bound is None else bound
        take = {
            y: min(1.0, max(0.0, (toys.value(y) - low) / beta) / ((top - low) / beta))
            for y in toys.base
        }
        nobody = sum(toys.base[y] * (1 - take[y]) for y in toys.base)
        for y, q in toys.base.items():
            total[y] += p * q * (take[y] + nobody)
    return total


@each_toy
@pytest.mark.parametrize("beta", [0.3, 1.5])
@pytest.mark.parametrize("bound", [None, 2.0])
def test_pessimism_with_one_trial(toys, beta, bound):
    found = toys.law(3, ChiSquaredPessimism(beta=beta, reward_max=bound))
    assert distance(found, pessimistically(toys, beta, bound)) < CLOSE


@pytest.mark.parametrize("kind", [ToyReward, CoarseReward])
@pytest.mark.parametrize("salt", range(3))
@pytest.mark.parametrize("beta", [0.2, 0.9])
def test_pessimism_with_two_trials(salt, kind, beta):
    """n = 5: of two rewards either both exceed lambda, or the higher one alone."""
    toys = Toys(salt, kind, vocab=2)

    def rule(pool):
        one, other, *fresh = map(toys.value, pool)
        near = abs(one - other) < 2 * beta
        low = (one + other) / 2 - beta if near else max(one, other) - 2 * beta
        a, b = (min(1.0, max(0.0, r - low) / (2.0 - low)) for r in fresh[:2])
        return (0, 0, a, (1 - a) * b, (1 - a) * (1 - b))

    found = toys.law(5, ChiSquaredPessimism(beta=beta, reward_max=2.0))
    assert distance(found, toys.over_pools(5, rule)) < CLOSE


@dataclass(frozen=True)
class Stronger:
    """Prefers what the toy reward prefers."""

    reward: ToyReward

    async def prefer(self, prompt, one, other):
        a, b = self.reward.value(one.tokens), self.reward.value(other.tokens)
        return 0.5 if a == b else 0.9 if a > b else 0.1


@dataclass(frozen=True)
class Cycle:
    """Without a best: 0 loses to 1, 1 to 2 and 2 to 0."""

    async def prefer(self, prompt, one, other):
        return (0.5, 1.0, 0.0)[(one.tokens[0] - other.tokens[0]) % 3]


def test_knockout_under_a_consistent_judge_is_best_of_n():
    toys = Toys(0, vocab=2)
    right = of_ranks(toys.base, toys.value, 3, 1)
    assert distance(toys.law(3, Knockout(judge=Stronger(toys.reward))), right) < CLOSE


def test_knockout_under_a_judge_without_a_best():
    """n = 3: two meet and the third, who has beaten or drawn with nobody yet, meets the winner."""
    toys = Toys(1, max_tokens=1)

    def beats(one, other):
        return (pool_of[one][0] - pool_of[other][0]) % 3 == 1 or (
            pool_of[one] == pool_of[other] and one < other
        )

    pool_of = ()

    def rule(pool):
        nonlocal pool_of
        pool_of, total = pool, [0.0] * 3
        for third in range(3):
            one, other = (i for i in range(3) if i != third)
            first = one if beats(one, other) else other
            total[third if beats(third, first) else first] += 1 / 3
        return total

    assert distance(toys.law(3, Knockout(judge=Cycle())), toys.over_pools(3, rule)) < CLOSE


EVERY = [
    Hard(),
    Soft(temperature=0.5),
    MajorityVote(extract=first_word),
    RewardWeightedVote(extract=first_word, temperature=0.5),
    ConfidenceWeightedVote(extract=first_word),
    BestOfMajority(extract=first_word, share=0.5),
    MinimumBayesRisk(utility=Rouge1()),
    Knockout(judge=Cycle()),
    TopFraction(m=2),
    ChiSquaredPessimism(beta=0.5),
]


@pytest.mark.parametrize("select", EVERY, ids=lambda select: type(select).__name__)
def test_the_mean_of_kl_estimate_bounds_the_divergence(select):
    toys = Toys(2, CoarseReward, vocab=2)
    strategy = BestOf(n=3, inner=toys.inner, select=select)

    async def answer(key: Key):
        run = Run(toys.policy, toys.reward, key)
        tokens = (await strategy.sample(PROMPT, run)).tokens
        return tokens, run.trace.notes["kl_estimate"]

    joint = law(answer)
    mean = sum(p * estimate for (_, estimate), p in joint.items())
    found = {y: sum(p for (z, _), p in joint.items() if z == y) for y in toys.base}
    kl = sum(p * math.log(p / toys.base[y]) for y, p in found.items() if p)
    assert kl <= mean + CLOSE
    assert mean < math.log(3)

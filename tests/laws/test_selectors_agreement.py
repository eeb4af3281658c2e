"""The law of best-of-n with selectors that look at agreement, against the rule on every pool.

The rules are written anew here from the papers, in other terms than the selectors' own.
"""

import math
from collections import Counter

import pytest
from selector_law import CLOSE, answer_of, each_n, each_toy, first_word

from rsalign.selectors import (
    BestOfMajority,
    ConfidenceWeightedVote,
    MajorityVote,
    MinimumBayesRisk,
    RewardWeightedVote,
)
from rsalign.selectors.utilities import ExactMatch, Rouge1, UnigramF1
from rsalign.testing import distance


def only(pool, chosen):
    return [float(i == chosen) for i in range(len(pool))]


@each_toy
def test_two_votes_are_a_best_of_two(toys):
    """They agree or tie: it is the better one, of those with an answer if there is one."""

    def standing(y):
        return (answer_of(y) is not None, toys.value(y))

    def at_most(y, strict):
        """Probability of a response that ranks below this one, or not above it."""
        return math.fsum(
            p
            for z, p in toys.base.items()
            if standing(z) < standing(y) or (not strict and standing(z) == standing(y))
        )

    right = {}
    for y, p in toys.base.items():
        low, high = at_most(y, True), at_most(y, False)
        right[y] = p / (high - low) * (high**2 - low**2)
    assert distance(toys.law(2, MajorityVote(extract=first_word)), right) < CLOSE
    weighted = RewardWeightedVote(extract=first_word, temperature=0.7)
    assert distance(toys.law(2, weighted), right) < CLOSE


def voting(toys, weight):
    """Weights by response; answers compete by weight, then by total reward, then by time."""

    def rule(pool):
        groups = {}
        for i, y in enumerate(pool):
            groups.setdefault(answer_of(y), []).append(i)
        answered = {a: members for a, members in groups.items() if a is not None} or groups
        ranked = sorted(
            answered.values(),
            key=lambda g: (
                -round(sum(weight(pool[i]) for i in g), 12),
                -sum(toys.value(pool[i]) for i in g),
                g[0],
            ),
        )
        return only(pool, min(ranked[0], key=lambda i: (-toys.value(pool[i]), i)))

    return rule


@each_toy
@each_n
def test_majority_vote(toys, n):
    right = toys.over_pools(n, voting(toys, lambda y: 1.0))
    assert distance(toys.law(n, MajorityVote(extract=first_word)), right) < CLOSE


@each_toy
@pytest.mark.parametrize("temperature", [0.4, 3.0])
def test_reward_weighted_vote(toys, temperature):
    right = toys.over_pools(3, voting(toys, lambda y: math.exp(toys.value(y) / temperature)))
    select = RewardWeightedVote(extract=first_word, temperature=temperature)
    assert distance(toys.law(3, select), right) < CLOSE


@each_toy
def test_confidence_weighted_vote(toys):
    """Confidence is the geometric mean of the tokens' probabilities."""
    right = toys.over_pools(3, voting(toys, lambda y: toys.base[y] ** (1 / len(y))))
    assert distance(toys.law(3, ConfidenceWeightedVote(extract=first_word)), right) < CLOSE


def frequent_enough(toys, share):
    def rule(pool):
        counts = Counter(answer_of(y) for y in pool if answer_of(y) is not None)
        kept = [
            i for i, y in enumerate(pool) if counts[answer_of(y)] * 12 >= share * 12 * len(pool)
        ]
        if not kept:
            return voting(toys, lambda y: 1.0)(pool)
        return only(pool, min(kept, key=lambda i: (-toys.value(pool[i]), i)))

    return rule


@each_toy
@pytest.mark.parametrize("share", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("n", [2, 3])
def test_best_of_majority(toys, share, n):
    right = toys.over_pools(n, frequent_enough(toys, share))
    assert distance(toys.law(n, BestOfMajority(extract=first_word, share=share)), right) < CLOSE


def common_words(one, other):
    """Twice the common words over all of them; tokens are words, and 0 ends a text."""
    one, other = Counter(filter(None, one)), Counter(filter(None, other))
    total = one.total() + other.total()
    return 2 * (one & other).total() / total if total else 1.0


def same_answer(one, other):
    return float(answer_of(one) == answer_of(other) is not None)


def least_risk(toys, utility, weight):
    def rule(pool):
        def worth(i):
            total = sum(weight(z) for z in pool)
            return sum(weight(z) / total * utility(pool[i], z) for z in pool)

        order = sorted(
            range(len(pool)), key=lambda i: (-round(worth(i), 12), -toys.value(pool[i]), i)
        )
        return only(pool, order[0])

    return rule


@each_toy
@pytest.mark.parametrize("temperature", [None, 0.8])
@pytest.mark.parametrize(
    ("select", "utility"),
    [
        (Rouge1(), common_words),
        (UnigramF1(), lambda one, other: common_words(set(one), set(other))),
        (ExactMatch(first_word), same_answer),
    ],
)
def test_minimum_bayes_risk(toys, select, utility, temperature):
    def weight(y):
        return 1.0 if temperature is None else math.exp(toys.value(y) / temperature)

    right = toys.over_pools(3, least_risk(toys, utility, weight))
    found = toys.law(3, MinimumBayesRisk(utility=select, temperature=temperature))
    assert distance(found, right) < CLOSE

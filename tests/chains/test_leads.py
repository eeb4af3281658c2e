"""The sequential test for a vote's leader: its level, by all votes up to a horizon."""

import functools
import math
from collections import defaultdict

import numpy as np
import pytest
from scipy.stats import beta as beta_law

from rsalign.selectors.leads import is_decided, log_evidence

ERROR = 0.3


def outcome(probs, horizon, says):
    """Probabilities of having been told a wrong and a right leader, whenever one looks.

    Args:
        probs: of each answer, ``(answers,)``.
        horizon: greatest number of votes.
        says: of the leader's votes, its strongest rival's, and its place in order of appearance,
            whether it is decided.
    """
    wrong, right = 0.0, 0.0
    open_ = {(): 1.0}  # votes of the answers in order of appearance
    for _ in range(horizon):
        longer = defaultdict(float)
        for votes, mass in open_.items():
            for answer, p in enumerate(probs):
                counts = dict(votes)
                counts[answer] = counts.get(answer, 0) + 1
                longer[tuple(counts.items())] += mass * p
        open_ = {}
        for votes, mass in longer.items():
            counts = dict(votes)
            leader = max(counts, key=counts.get)
            rival = max((count for answer, count in votes if answer != leader), default=0)
            if not says(counts[leader], rival, 1 + list(counts).index(leader)):
                open_[votes] = mass
            elif probs[leader] < max(probs):
                wrong += mass
            else:
                right += mass
    return wrong, right


@functools.cache
def ours(leader, rival, order):
    return is_decided([leader, rival], order, ERROR)


@functools.cache
def posterior(leader, rival, order):
    """A planted mistake: the look that is right once, taken after every vote."""
    return beta_law(leader + 1, rival + 1).cdf(0.5) < ERROR


# the second best is as close as it can be, or far behind
LAWS = {"close": ((0.499, 0.501), 48), "three": ((0.33, 0.33, 0.34), 20), "clear": ((0.2, 0.8), 40)}


@pytest.mark.parametrize(("probs", "horizon"), LAWS.values(), ids=LAWS)
def test_the_level_holds(probs, horizon):
    wrong, right = outcome(probs, horizon, ours)
    assert 0 < wrong <= ERROR
    if max(probs) > 0.7:
        assert right > 0.9


@pytest.mark.parametrize("law", ["close", "three"])
def test_looking_again_and_again_without_a_price_is_caught(law):
    assert outcome(*LAWS[law], posterior)[0] > ERROR


@pytest.mark.parametrize("probs", [(0.5, 0.5), (0.4, 0.6)])
def test_the_evidence_is_a_fair_bet_and_never_better(probs):
    """Its mean over all votes is 1 where both are alike, and less where the rival is ahead."""
    size = 12
    mean = math.fsum(
        math.comb(size, k)
        * probs[0] ** k
        * probs[1] ** (size - k)
        * math.exp(log_evidence(k, size - k))
        for k in range(size + 1)
    )
    if probs[0] == 0.5:
        assert mean == pytest.approx(1, abs=1e-9)
    else:
        assert mean < 0.95


@pytest.mark.parametrize(
    ("leader", "rival"), [(0, 0), (3, 1), (1, 3), (12, 1), (40, 30), (2.5, 0.7)]
)
def test_the_evidence_is_the_mixture_it_says(leader, rival):
    p = np.linspace(0.5, 1, 200_001)
    ratios = (2 * p) ** leader * (2 * (1 - p)) ** rival
    integral = (ratios[1:] + ratios[:-1]).sum() / 2 * (p[1] - p[0])
    assert log_evidence(leader, rival) == pytest.approx(math.log(2 * integral), abs=1e-5)


def test_evidence_of_many_votes_is_finite():
    assert 1000 < log_evidence(5000, 10) < 5010 * math.log(2)
    assert log_evidence(10, 5000) < -100


def test_only_the_strongest_rival_counts():
    for leader in range(1, 30):
        assert is_decided([leader, 2, 1, 1], 1, ERROR) == is_decided([leader, 2], 1, ERROR)


def test_who_comes_late_has_to_show_more():
    needed = [
        next(votes for votes in range(100) if is_decided([votes], order, ERROR))
        for order in (1, 2, 9)
    ]
    assert needed == sorted(set(needed))


def test_one_vote_decides_nothing():
    assert not is_decided([1], 1, 0.999)
    assert not is_decided([0.2], 1, 0.999)


@pytest.mark.parametrize("order", [1, 2, 3, 7])
def test_answers_share_the_level_by_the_order_in_which_they_were_seen(order):
    """The j-th has error / (j (j + 1)), which sums to the error over all j."""
    level = math.exp(-log_evidence(11, 1)) * order * (order + 1)
    assert is_decided((12, 1), order, 1.01 * level)
    assert not is_decided((12, 1), order, 0.99 * level)

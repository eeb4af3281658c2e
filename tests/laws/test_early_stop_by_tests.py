"""Early stopping by a test of the votes: its law and its level, followed on every sequence."""

import functools
import itertools
import math
from collections import Counter

import pytest
from scipy.integrate import quad
from scipy.stats import gamma
from selector_law import PROMPT, first_word
from test_early_stop import VOTE, winner

from rsalign import DecidedLead, Plain
from rsalign.selectors import BetaLead, DirichletLead
from rsalign.strategies.early_stop import EarlyStop
from rsalign.testing import ToyPolicy, ToyReward, distance, law_of, responses

N = 6


@functools.cache
def evidence(leader, rival):
    """Twice the mean likelihood ratio over shares above 1/2, as a sum over a fine grid."""
    step = 0.5 / 4000
    shares = [0.5 + step * (i + 0.5) for i in range(4000)]
    return 2 * step * sum((2 * p) ** leader * (2 * (1 - p)) ** rival for p in shares)


@functools.cache
def is_greatest(counts):
    """P(the first of Dirichlet shares is the greatest), one more share being unseen."""
    leader, *others = (count + 1 for count in (*counts, 0))
    density = gamma(leader).pdf
    below = [gamma(each).cdf for each in others]
    return quad(lambda x: density(x) * math.prod(each(x) for each in below), 0, 80)[0]


def decided(rule, answers):
    counts = Counter(answer for answer in answers if answer is not None)
    if not counts:
        return False
    leader, count = counts.most_common(1)[0]
    rivals = [other for answer, other in counts.items() if answer != leader]
    strongest = max(rivals, default=0)
    if isinstance(rule, DecidedLead):
        order = 1 + list(counts).index(leader)
        return evidence(count - 1, strongest) >= order * (order + 1) / rule.error
    if isinstance(rule, BetaLead):
        n = count + strongest + 1
        tail = sum(math.comb(n, j) for j in range(strongest + 1, n + 1)) / 2**n
        return tail >= rule.confidence
    return is_greatest((count, *sorted(rivals))) >= rule.confidence


RULES = [
    DecidedLead(error=0.6),
    DecidedLead(error=0.9),
    BetaLead(confidence=0.8),
    DirichletLead(confidence=0.8),
]


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("salt", [0, 1])
def test_the_law(rule, salt):
    policy, reward = ToyPolicy(3, salt), ToyReward(salt)
    base = responses(policy, PROMPT.tokens, 1)
    shares = Counter()
    for y, p in base.items():
        shares[first_word(policy.text(y))] += p
    mode = max((a for a in shares if a is not None), key=shares.get)
    expected, early, wrong = dict.fromkeys(base, 0.0), 0.0, 0.0
    for pool in itertools.product(base, repeat=N):
        mass = math.prod(base[y] for y in pool)
        answers = [first_word(policy.text(y)) for y in pool]
        k = next((k for k in range(1, N) if decided(rule, answers[:k])), N)
        chosen = winner(policy, reward, pool[:k])
        expected[chosen] += mass
        if k < N:
            early += mass
            wrong += mass * (first_word(policy.text(chosen)) != mode)
    strategy = EarlyStop(
        n=N, at_least=1, batch=1, stopping=rule, inner=Plain(max_tokens=1), select=VOTE
    )
    assert distance(law_of(strategy, policy, reward, PROMPT), expected) < 1e-12
    assert early > 0
    if isinstance(rule, DecidedLead):
        assert wrong <= rule.error

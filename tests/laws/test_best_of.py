"""Best-of-n against order statistics, and planted mistakes that must not pass."""

import itertools
import math
from dataclasses import dataclass
from operator import attrgetter

import pytest
from selector_law import PROMPT, CoarseReward

from rsalign import BestOf, Plain
from rsalign.core.tasks import concurrently
from rsalign.testing import ToyPolicy, ToyReward, distance, law_of, responses


def order_statistics(base, value, n):
    """P(y) = pi(y) / P(r = r(y)) * (F(r(y))^n - F(r(y)-)^n)."""

    def mass(keep):
        return math.fsum(p for y, p in base.items() if keep(value(y)))

    def of(y):
        below = mass(lambda r: r < value(y))
        same = mass(lambda r: r == value(y))
        return base[y] / same * ((below + same) ** n - below**n)

    return {y: of(y) for y in base}


@pytest.mark.parametrize("salt", range(4))
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("kind", [ToyReward, CoarseReward])
def test_order_statistics(salt, n, kind):
    policy, reward = ToyPolicy(2, salt), kind(salt)
    law = law_of(BestOf(n=n, inner=Plain(max_tokens=3)), policy, reward, PROMPT)
    base = responses(policy, PROMPT.tokens, 3)
    assert distance(law, order_statistics(base, reward.value, n)) < 1e-12


@pytest.mark.parametrize("salt", range(4))
def test_best_of_best_is_best_of_all(salt):
    policy, reward = ToyPolicy(2, salt), ToyReward(salt)
    nested = BestOf(n=2, inner=BestOf(n=2, inner=Plain(max_tokens=2)))
    flat = order_statistics(responses(policy, PROMPT.tokens, 2), reward.value, 4)
    assert distance(law_of(nested, policy, reward, PROMPT), flat) < 1e-12


def test_kl_bound_of_the_docstring():
    policy, reward = ToyPolicy(3), ToyReward()
    base = responses(policy, PROMPT.tokens, 2)
    for n in (1, 2, 3):
        law = law_of(BestOf(n=n, inner=Plain(max_tokens=2)), policy, reward, PROMPT)
        kl = math.fsum(p * math.log(p / base[y]) for y, p in law.items() if p)
        assert kl <= math.log(n) - (n - 1) / n + 1e-12


@dataclass(frozen=True, kw_only=True)
class SharedKey(BestOf):
    async def sample(self, prompt, run):
        drawn = await concurrently(
            self.inner.sample(prompt, run.branch("candidate", 0)) for _ in range(self.n)
        )
        return max(drawn, key=attrgetter("reward"))


@dataclass(frozen=True, kw_only=True)
class Worst(BestOf):
    async def sample(self, prompt, run):
        drawn = await concurrently(
            self.inner.sample(prompt, run.branch("candidate", i)) for i in range(self.n)
        )
        return min(drawn, key=attrgetter("reward"))


@dataclass(frozen=True, kw_only=True)
class OneMore(BestOf):
    async def sample(self, prompt, run):
        drawn = await concurrently(
            self.inner.sample(prompt, run.branch("candidate", i)) for i in range(self.n + 1)
        )
        return max(drawn, key=attrgetter("reward"))


@dataclass(frozen=True, kw_only=True)
class FirstWins(BestOf):
    async def sample(self, prompt, run):
        drawn = await concurrently(
            self.inner.sample(prompt, run.branch("candidate", i)) for i in range(self.n)
        )
        return drawn[0]


@pytest.mark.parametrize(
    ("mutant", "salt"), list(itertools.product([SharedKey, Worst, OneMore, FirstWins], range(3)))
)
def test_planted_mistakes_are_caught(mutant, salt):
    policy, reward = ToyPolicy(2, salt), ToyReward(salt)
    law = law_of(mutant(n=2, inner=Plain(max_tokens=2)), policy, reward, PROMPT)
    right = order_statistics(responses(policy, PROMPT.tokens, 2), reward.value, 2)
    assert distance(law, right) > 1e-3

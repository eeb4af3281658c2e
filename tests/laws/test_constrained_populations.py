"""Populations under a constraint: unbiased on what is allowed, and mistakes are not."""

import asyncio
import itertools
import math
from dataclasses import dataclass

import pytest
from biased_toy import BiasedToy
from particle_law import PROMPT, mean_weights, strategy, tilted

from rsalign import (
    Beam,
    ConfigError,
    Constrained,
    CostBudget,
    Dvts,
    EarlyDrop,
    FixedSize,
    Sampling,
    align,
)
from rsalign.core.run import Run
from rsalign.populations import LookAhead, PartialReward
from rsalign.testing import ToyPolicy, ToyReward, law

ALWAYS = 1.0


@dataclass(frozen=True)
class Legal:
    """Never 2 after 2; a complete answer has a 1. The second is known at the end only."""

    async def allows(self, prompt, response):
        return legal(response.tokens, response.complete)


@dataclass(frozen=True)
class Nothing:
    async def allows(self, prompt, response):
        return False


def legal(tokens, complete=True):
    repeats = any(a == b == 2 for a, b in itertools.pairwise(tokens))
    return not repeats and (not complete or 1 in tokens)


def error(of, salt, *, constrained=True):
    """The greatest error of the estimate of pi(y) w(y) [y is allowed]."""
    policy, reward = BiasedToy(3, salt), ToyReward(salt)
    given = Constrained(reward, Legal()) if constrained else reward
    found = mean_weights(of, policy, given)
    wanted = tilted(ToyPolicy(3, salt), reward.value, of.max_tokens)
    return max(
        abs(found.get(y, 0.0) * (len(y) == of.max_tokens or y[-1:] == (0,)) - mass * legal(y))
        for y, mass in wanted.items()
    )


CASES = {
    "two": strategy(ess_threshold=ALWAYS),
    "adaptive": strategy(ess_threshold=0.6),
    "one, three rounds": strategy(n=1, max_tokens=3),
    "two, longer segments": strategy(max_tokens=3, segmenter=FixedSize(2), ess_threshold=ALWAYS),
    "no twist": strategy(ess_threshold=ALWAYS, twist=PartialReward(scale=0.0)),
    "look ahead": strategy(n=1, twist=LookAhead(rollouts=2)),
    "moved": strategy(ess_threshold=ALWAYS, rejuvenate=1),
    "by tokens": strategy(n=1, tokens=Legal()),
    "by tokens, longer segments": strategy(n=1, segmenter=FixedSize(2), tokens=Legal()),
}


@pytest.mark.parametrize("of", CASES.values(), ids=CASES)
@pytest.mark.parametrize("salt", [3])
def test_estimates_are_unbiased_on_what_is_allowed(of, salt):
    assert error(of, salt) < 1e-12


def test_two_particles_by_tokens():
    """Weights of tokens enter the resampling."""
    policy, reward = BiasedToy(2, 3), ToyReward(3)

    @dataclass(frozen=True)
    class NotEmpty:
        async def allows(self, prompt, response):
            return response.tokens != (0,)

    of = strategy(ess_threshold=ALWAYS, tokens=NotEmpty())
    found = mean_weights(of, policy, reward)
    for y, mass in tilted(ToyPolicy(2, 3), reward.value, 2).items():
        assert found.get(y, 0.0) == pytest.approx(mass * (y != (0,)), abs=1e-12)


@pytest.mark.parametrize(
    "of",
    [
        strategy(n=3),
        strategy(n=2, tokens=Nothing()),
        Beam(width=2, branch=2, segmenter=FixedSize(1), max_tokens=3),
        Dvts(subtrees=2, branch=2, segmenter=FixedSize(1), max_tokens=3),
        EarlyDrop(n=3, first=1, max_tokens=3),
    ],
    ids=lambda one: type(one).__name__,
)
def test_where_nothing_is_allowed_there_is_no_answer(of):
    reward = Constrained(ToyReward(), Nothing())
    result = asyncio.run(align(PROMPT, of, policy=BiasedToy(3), reward=reward))
    assert result.abstained
    assert "allows none of" in result.candidate.response.stop_reason


@pytest.mark.parametrize("salt", range(2))
@pytest.mark.parametrize(
    "of",
    [
        Beam(width=2, branch=1, segmenter=FixedSize(1), max_tokens=2),
        Dvts(subtrees=1, branch=2, segmenter=FixedSize(1), max_tokens=2),
        EarlyDrop(n=2, first=1, max_tokens=2),
        strategy(n=2, ess_threshold=ALWAYS),
    ],
    ids=lambda one: type(one).__name__,
)
def test_answers_are_allowed_or_none(of, salt):
    reward = Constrained(ToyReward(salt), Legal())

    async def answer(key):
        chosen = await of.sample(PROMPT, Run(ToyPolicy(3, salt), reward, key))
        return None if chosen.abstained else chosen.tokens

    found = law(answer)
    assert all(legal(y) for y in found if y)
    assert 0.1 < 1 - found[None] < 1


def test_tokens_one_by_one_are_refused_beside_what_does_not_fit():
    with pytest.raises(ConfigError, match="leave out one of them"):
        strategy(tokens=Legal(), rejuvenate=1)
    policy = BiasedToy(3, law=Sampling(top_p=0.5))
    with pytest.raises(ConfigError, match="set top_p=1"):
        asyncio.run(align(PROMPT, strategy(tokens=Legal()), policy=policy, reward=ToyReward()))


@dataclass(frozen=True)
class Twos:
    """What an answer costs: the number of its tokens 2."""

    async def score(self, prompt, response):
        return float(response.tokens.count(2))


@pytest.mark.parametrize("salt", range(2))
@pytest.mark.parametrize("limit", [0.0, 1.0])
def test_an_answer_has_a_budget_of_cost(limit, salt):
    """Particles estimate pi w on the answers within the budget, and no others."""
    policy, reward = ToyPolicy(3, salt), ToyReward(salt)
    of = strategy(ess_threshold=ALWAYS)
    found = mean_weights(of, policy, Constrained(reward, CostBudget(Twos(), limit)))
    for y, mass in tilted(policy, reward.value, of.max_tokens).items():
        within = y.count(2) <= limit
        assert found.get(y, 0.0) == pytest.approx(mass * within, abs=1e-12)


# planted mistakes


def test_weights_of_tokens_that_are_forgotten(monkeypatch):
    from rsalign.populations.particle import Particle

    extended = Particle.extended
    monkeypatch.setattr(
        Particle, "extended", lambda self, one, log_twist, _: extended(self, one, log_twist)
    )
    assert error(CASES["by tokens"], 3) > 1e-3


def test_a_twist_that_is_zero_where_something_is_allowed(monkeypatch):
    """Roll-outs that are all excluded say nothing of the others."""

    async def log_value(self, prompt, candidate, target, run):
        found = await LOOK(self, prompt, candidate, target, run)
        known = target.log_weight(candidate) - math.log(self.rollouts + 1)
        return -math.inf if math.isclose(found, known) else found

    monkeypatch.setattr(LookAhead, "log_value", log_value)
    assert error(CASES["look ahead"], 3) > 1e-3


LOOK = LookAhead.log_value

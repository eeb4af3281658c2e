"""Conditional Poisson sampling and beams of it: the design, its inclusions, unbiased sums."""

import asyncio
import itertools
import math
from collections import defaultdict
from dataclasses import dataclass, replace

import pytest
from selector_law import PROMPT

from rsalign import ConfigError, Key, Run, Sampling, StochasticBeam
from rsalign.core.types import Stop
from rsalign.populations.conditional_poisson import Inclusion, draw_without_replacement
from rsalign.selectors import Hard
from rsalign.strategies import stochastic_beam as module
from rsalign.testing import EOS, ToyPolicy, ToyReward, distance, law, law_of, responses

WEIGHTS = [(0.5, 0.2, 0.2, 0.1), (1.0, 1.0, 1.0), (0.9, 1e-12, 0.1), (0.3, 0.0, 0.7)]


def design(weights, k):
    """P(S) by all subsets."""
    possible = [i for i, w in enumerate(weights) if w > 0]
    subsets = itertools.combinations(possible, min(k, len(possible)))
    masses = {s: math.prod(weights[i] for i in s) for s in subsets}
    total = sum(masses.values())
    return {s: mass / total for s, mass in masses.items()}


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_the_design_and_its_inclusions(weights, k):
    logs = [math.log(w) if w else -math.inf for w in weights]

    async def draw(key):
        return draw_without_replacement(logs, k, key)

    expected, sets = design(weights, k), defaultdict(float)
    for drawn, mass in law(draw).items():
        sets[tuple(one.index for one in drawn)] += mass
        for one in drawn:
            inclusion = sum(p for s, p in expected.items() if one.index in s)
            assert one.prob == pytest.approx(inclusion, rel=1e-9)
    assert distance(sets, expected) < 1e-12


def test_weights_far_below_the_least_float():
    drawn = draw_without_replacement((-2000.0, -2001.0, -3000.0), 2, Key(0))
    assert [one.index for one in drawn] == [0, 1]
    assert all(0.999 < one.prob <= 1.0 for one in drawn)


LONGEST = 3


def sums(strategy, policy):
    """E[sum_i weight_i 1{y_i = y}], by enumeration."""

    async def run_once(key):
        run = Run(policy, ToyReward(), key)
        await strategy.sample(PROMPT, run)
        tokens = tuple(p.candidate.tokens for p in run.trace.proposals)
        return tokens, run.trace.notes["weights"]

    # any selector: `Hard` draws nothing
    found = law(run_once)
    means = defaultdict(float)
    for (tokens, weights), mass in found.items():
        assert len(set(tokens)) == len(tokens)
        for y, weight in zip(tokens, weights, strict=True):
            means[y] += mass * weight
    return means, found


@pytest.mark.parametrize("salt", range(2))
@pytest.mark.parametrize("width", [1, 2, 3, 9])
def test_weighted_sums_are_unbiased(width, salt):
    policy = ToyPolicy(2, salt)
    strategy = StochasticBeam(width=width, select=Hard(), max_tokens=LONGEST)
    means, found = sums(strategy, policy)
    assert distance(means, responses(policy, PROMPT.tokens, LONGEST)) < 1e-12
    if width == 9:  # all there are, each with its probability
        ((tokens, weights),) = found
        exact = responses(policy, PROMPT.tokens, LONGEST)
        assert weights == pytest.approx([exact[y] for y in tokens])


def test_the_law_on_the_alternatives():
    """With two of three tokens the weights are those of the law that has no third."""
    policy = ToyPolicy(3, 1)

    def truncated(prefix):
        probs = policy.probs(PROMPT.tokens + prefix)
        kept = sorted(range(3), key=lambda t: -probs[t])[:2]
        return {t: probs[t] / sum(probs[t] for t in kept) for t in kept}

    expected = {}

    def grow(tokens, mass):
        if tokens[-1:] == (EOS,) or len(tokens) == 2:
            expected[tokens] = mass
            return
        for token, p in truncated(tokens).items():
            grow((*tokens, token), mass * p)

    grow((), 1.0)
    strategy = StochasticBeam(width=2, alternatives=2, select=Hard(), max_tokens=2)
    assert distance(sums(strategy, policy)[0], expected) < 1e-12


def test_one_beam_is_a_draw_of_the_policy():
    policy = ToyPolicy(3, 0)
    found = law_of(StochasticBeam(width=1, max_tokens=2), policy, ToyReward(), PROMPT)
    assert distance(found, responses(policy, PROMPT.tokens, 2)) < 1e-12


@dataclass(frozen=True)
class Stopping(ToyPolicy):
    sampling: Sampling = Sampling(stop=("2 1",), stop_token_ids=(3,))  # noqa: RUF009


def test_stops_end_answers():
    run = Run(Stopping(4), ToyReward(), Key(0))
    strategy = StochasticBeam(width=40, select=Hard(), max_tokens=3)
    asyncio.run(strategy.sample(PROMPT, run))
    answers = [p.candidate for p in run.trace.proposals]
    for one in answers:
        tokens, response = one.tokens, one.response
        if tokens[-1] == 3:
            assert (response.stop, response.stop_reason) == (Stop.STOP, 3)
        elif tokens[-2:] == (2, 1):
            assert (response.stop, response.stop_reason) == (Stop.STOP, "2 1")
            assert "2 1" not in response.text
        else:
            assert response.stop in (Stop.EOS, Stop.LENGTH)
        assert 3 not in tokens[:-1]
    assert {one.tokens[-1] for one in answers} >= {EOS, 3}


def test_a_policy_that_cannot_list_is_refused():
    class Silent(ToyPolicy):
        most_probable = None

    with pytest.raises(ConfigError, match="Silent cannot list"):
        asyncio.run(StochasticBeam().sample(PROMPT, Run(Silent(), ToyReward(), Key(0))))


# planted mistakes


def proportional(log_weights, k, key):
    """Inclusions that are only proportional to the weights, as if draws were independent."""
    drawn = draw_without_replacement(log_weights, k, key)
    total = sum(math.exp(log) for log in log_weights)
    return tuple(
        replace(one, prob=min(1.0, k * math.exp(log_weights[one.index]) / total)) for one in drawn
    )


def the_best(log_weights, k, key):
    """The most probable of those that the design drew twice as many of."""
    drawn = draw_without_replacement(log_weights, 2 * k, key)
    best = sorted(drawn, key=lambda one: -log_weights[one.index])[:k]
    return tuple(sorted(best, key=lambda one: one.index))


def without_inclusions(log_weights, k, key):
    return tuple(Inclusion(one.index, 1.0) for one in draw_without_replacement(log_weights, k, key))


@pytest.mark.parametrize("wrong", [proportional, the_best, without_inclusions])
def test_planted_mistakes(wrong, monkeypatch):
    monkeypatch.setattr(module, "draw_without_replacement", wrong)
    policy = ToyPolicy(2, 0)
    strategy = StochasticBeam(width=2, select=Hard(), max_tokens=LONGEST)
    assert distance(sums(strategy, policy)[0], responses(policy, PROMPT.tokens, LONGEST)) > 1e-3

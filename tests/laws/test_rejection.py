"""Rejection against its closed form, the forced branch and the clipped law included."""

import asyncio
import math
from dataclasses import dataclass

import pytest
from chain_law import BETA, PROMPT

from rsalign import BestOf, ConfigError, Plain, align
from rsalign.selectors import StatisticalRejection
from rsalign.strategies.rejection import Rejection
from rsalign.testing import ToyPolicy, ToyReward, distance, law_of, responses

POLICY, REWARD = ToyPolicy(2, 3), ToyReward(3)
BASE = responses(POLICY, PROMPT.tokens, 3)
HIGHEST = max(REWARD.value(y) for y in BASE)


def closed_form(bound, max_draws):
    """Accepted within the draws, or resampled from them: by going through all of their orders."""
    accept = {y: min(1.0, math.exp((REWARD.value(y) - bound) / BETA)) for y in BASE}
    law = dict.fromkeys(BASE, 0.0)

    def go(drawn, mass):
        if len(drawn) == max_draws:
            total = math.fsum(math.exp(REWARD.value(y) / BETA) for y in drawn)
            for y in drawn:
                law[y] += mass * math.exp(REWARD.value(y) / BETA) / total
            return
        for y, p in BASE.items():
            law[y] += mass * p * accept[y]
            if accept[y] < 1:
                go([*drawn, y], mass * p * (1 - accept[y]))

    go([], 1.0)
    return law


@pytest.mark.parametrize("bound", [HIGHEST, HIGHEST - 1.0, HIGHEST + 0.5])
@pytest.mark.parametrize("max_draws", [1, 3])
@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_the_law(bound, max_draws, at_once):
    strategy = Rejection(beta=BETA, bound=bound, max_tokens=3, max_draws=max_draws, at_once=at_once)
    found = law_of(strategy, POLICY, REWARD, PROMPT)
    assert distance(found, closed_form(bound, max_draws)) < 1e-12


def test_what_is_accepted_is_the_tilted_policy():
    """Without the forced branch; a bound below the greatest reward clips it."""
    for bound in (HIGHEST, HIGHEST - 1.0):
        accepted = {
            y: p * min(1.0, math.exp((REWARD.value(y) - bound) / BETA)) for y, p in BASE.items()
        }
        rate = math.fsum(accepted.values())
        tilted = {y: p * math.exp(min(REWARD.value(y), bound) / BETA) for y, p in BASE.items()}
        total = math.fsum(tilted.values())
        share = {y: mass / rate for y, mass in accepted.items()}
        assert distance(share, {y: mass / total for y, mass in tilted.items()}) < 1e-12


@dataclass(frozen=True)
class High(ToyReward):
    """Far above any bound of the test below, or far below it."""

    height: float = 0.0

    def value(self, tokens):
        return self.height


@pytest.mark.parametrize(
    ("height", "clipped", "forced"), [(9.0, 1.0, False), (1.0, 0.0, False), (-99.0, 0.0, True)]
)
def test_notes(height, clipped, forced):
    result = asyncio.run(
        align(
            PROMPT,
            Rejection(beta=1.0, bound=1.0, max_tokens=3, max_draws=5),
            policy=POLICY,
            reward=High(height=height),
        )
    )
    notes = result.trace.notes
    assert notes["clipped_share"] == clipped
    assert notes["forced"] == forced == result.trace.forced
    assert notes["num_tested"] == (5 if forced else 1)
    assert notes["acceptance_rate"] == (0 if forced else 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [("beta", 0.0), ("bound", math.inf), ("max_draws", 0), ("max_tokens", 1.5), ("at_once", True)],
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ConfigError, match=f"{name}="):
        Rejection(**{"beta": 1.0, "bound": 1.0} | {name: value})


@pytest.mark.parametrize("n", [1, 2, 3])
def test_statistical_rejection_takes_the_first_that_passes(n):
    """By going through all pools, and within a pool through all outcomes of the tests."""
    expected = dict.fromkeys(BASE, 0.0)

    def go(pool, mass):
        if len(pool) < n:
            for y, p in BASE.items():
                go([*pool, y], mass * p)
            return
        highest = max(map(REWARD.value, pool))
        for y in pool:
            passes = math.exp((REWARD.value(y) - highest) / BETA)
            expected[y] += mass * passes
            mass *= 1 - passes

    go([], 1.0)
    select = StatisticalRejection(beta=BETA)
    found = law_of(BestOf(n=n, inner=Plain(max_tokens=3), select=select), POLICY, REWARD, PROMPT)
    assert distance(found, expected) < 1e-12


def test_statistical_rejection_tends_to_the_tilted_policy():
    tilted = {y: p * math.exp(REWARD.value(y) / BETA) for y, p in BASE.items()}
    total = math.fsum(tilted.values())
    tilted = {y: mass / total for y, mass in tilted.items()}
    far = [
        distance(
            law_of(
                BestOf(n=n, inner=Plain(max_tokens=3), select=StatisticalRejection(beta=BETA)),
                POLICY,
                REWARD,
                PROMPT,
            ),
            tilted,
        )
        for n in (1, 2, 4)
    ]
    assert far[2] < far[1] < far[0]

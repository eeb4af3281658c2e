"""Conformal: the share that is rejected, for every order, with ties, and inside strategies."""

import asyncio
import itertools
import math
from dataclasses import replace
from fractions import Fraction

import pytest
from draft_law import PROMPT, Toys

from rsalign import Cards, ConfigError, Conformal, Constant, FixedSize, Gsi, Rsd
from rsalign.core.run import Run
from rsalign.core.trace import Verdict
from rsalign.segments.conformal import calibrate
from rsalign.testing import law


def rejected(rule, reward):
    return 1 - math.exp(rule.log_accept(reward, math.nan))


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("alpha", [0.2, 0.29, 0.5, 0.75, 0.99])
@pytest.mark.parametrize("values", ["distinct", "tied", "equal"])
def test_the_share_is_that_of_whole_ranks(n, alpha, values):
    """Over all orders of n + 1 exchangeable rewards."""
    ranks = math.floor(Fraction(str(alpha)) * (n + 1))
    if not ranks:
        with pytest.raises(ConfigError, match="whole ranks are rejected"):
            Conformal(alpha=alpha, draws=n)
        return
    pool = {
        "distinct": range(n + 1),
        "tied": [i // 2 for i in range(n + 1)],
        "equal": [1] * (n + 1),
    }
    orders = list(itertools.permutations(map(float, pool[values])))
    share = math.fsum(
        rejected(Conformal(alpha=alpha, scores=others), tested) for tested, *others in orders
    ) / len(orders)
    assert share == pytest.approx(ranks / (n + 1), abs=1e-12)


def test_a_hundred_calibration_drafts_lose_no_rank_to_rounding():
    rule = Conformal(alpha=0.29, scores=tuple(map(float, range(99))))
    assert (rejected(rule, 27.5), rejected(rule, 28.5)) == (1, 0)


def test_nothing_is_rejected_at_zero():
    assert Conformal(alpha=0.0, scores=(1.0, 2.0)).log_accept(-9.0, 0.0) == 0.0


@pytest.mark.parametrize("alpha", [-0.1, 1.0, math.nan])
def test_shares_out_of_range_are_refused(alpha):
    with pytest.raises(ConfigError, match="Conformal\\(alpha="):
        Conformal(alpha=alpha)


def test_known_scores_need_no_draws():
    async def draw(i):
        raise AssertionError(i)

    known = Conformal(alpha=0.5, scores=(1.0,))
    assert asyncio.run(calibrate(known, draw)) is known


def first_share(strategy, toys):
    """P(the first draft of the first segment is rejected), by enumeration."""

    async def verdict(key):
        run = Run(toys.policy, toys.reward, key, parts=toys.parts)
        await strategy.sample(PROMPT, run)
        return run.trace.proposals[0].verdict

    return law(verdict)[Verdict.REJECTED]


RULE = Conformal(alpha=0.7, draws=2)  # two ranks of three
STRATEGIES = {
    "rsd": Rsd(segmenter=FixedSize(1), acceptance=RULE, max_tokens=1),
    "gsi": Gsi(segmenter=FixedSize(1), n=1, acceptance=RULE, max_tokens=1),
    "cards": Cards(
        segmenter=FixedSize(1),
        threshold=Constant(value=0.0),
        acceptance=RULE,
        max_tokens=1,
        max_tries=1,
    ),
}


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("vocab", [2, 3])
def test_strategies_reject_that_share(name, vocab):
    toys = Toys(vocab=vocab, max_tokens=1)
    assert first_share(STRATEGIES[name], toys) == pytest.approx(2 / 3, abs=1e-12)


class TiesLast(Conformal):
    """Orders equal rewards so that the draft under test is the lowest of them."""

    def log_accept(self, reward, threshold):
        return Conformal.log_accept(self, math.nextafter(reward, -math.inf), threshold)


class OfOthersAlone(Conformal):
    """Takes the share of the n calibration drafts, and not of n + 1."""

    @property
    def _num_rejected(self):
        return math.floor(self.alpha * (len(self.scores) or self.draws))


@pytest.mark.parametrize("wrong", [TiesLast, OfOthersAlone])
def test_mistakes_are_told(wrong):
    toys = Toys(vocab=3, max_tokens=1)
    strategy = replace(STRATEGIES["rsd"], acceptance=wrong(alpha=0.7, draws=2))
    assert abs(first_share(strategy, toys) - 2 / 3) > 1e-3

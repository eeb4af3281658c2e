"""Rules that find beta from a pool: what they were asked for is what the pool then shows."""

import math

import pytest

from rsalign import ConfigError, QAlign
from rsalign.chains.beta_rules import (
    BETA_RULES,
    BetaRule,
    TargetKL,
    TargetSampleSize,
    beta_notes,
    beta_warnings,
    resolve_beta,
)
from rsalign.segments.acceptance import SoftAcceptance
from rsalign.strategies.quest import Quest

POOL = (0.3, -1.2, 2.5, 0.9, 0.1, 1.7, -0.4, 0.8, 3.1, -2.2, 0.5, 1.1)


def weights(rewards, beta):
    raw = [math.exp(reward / beta) for reward in rewards]
    return [value / sum(raw) for value in raw]


def kl(rewards, beta):
    return sum(w * math.log(w * len(rewards)) for w in weights(rewards, beta))


def sample_size(rewards, beta):
    return 1 / sum(w * w for w in weights(rewards, beta))


@pytest.mark.parametrize("nats", [0.01, 0.5, 1.0, 2.0])
def test_the_pool_is_as_far_from_the_policy_as_asked(nats):
    assert kl(POOL, TargetKL(nats=nats).beta(POOL)) == pytest.approx(nats, rel=1e-6)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_the_pool_is_worth_as_much_as_asked(share):
    beta = TargetSampleSize(share=share).beta(POOL)
    assert sample_size(POOL, beta) == pytest.approx(share * len(POOL), rel=1e-6)


@pytest.mark.parametrize("rule", [TargetKL(nats=0.7), TargetSampleSize(share=0.4)])
def test_beta_has_the_units_of_the_reward(rule):
    beta = rule.beta(POOL)
    assert rule.beta([100 * reward - 7000 for reward in POOL]) == pytest.approx(100 * beta)
    assert rule.beta([1e-9 * reward for reward in POOL]) == pytest.approx(1e-9 * beta)
    assert rule.beta(tuple(reversed(POOL))) == pytest.approx(beta)


@pytest.mark.parametrize("rule", [TargetKL(nats=0.3), TargetSampleSize(share=0.4)])
def test_equal_rewards_are_one_law_at_every_beta(rule):
    assert 0 < rule.beta((2.0,) * 8) < math.inf


def right(num_best, n=16):
    """Rewards of a verifier: so many of n answers are right."""
    return (1.0,) * num_best + (0.0,) * (n - num_best)


@pytest.mark.parametrize("num_best", [1, 2, 8, 15])
@pytest.mark.parametrize("nats", [0.05, 0.5, 0.6931, 0.6932, 1.0, 2.5])
def test_ties_bound_the_kl(num_best, nats):
    """With m of n best it is below ln(n / m); beyond, the greatest beta that comes nearest."""
    rule, rewards, limit = TargetKL(nats=nats), right(num_best), math.log(16 / num_best)
    beta = rule.beta(rewards)
    assert (rule.unreachable(rewards) is None) == (nats < limit)
    assert kl(rewards, beta) == pytest.approx(min(nats, limit), rel=2e-9)
    # a greater beta is farther from the target
    assert kl(rewards, 1.05 * beta) < min(nats, limit) * (1 - 1.1e-9)
    if nats > limit:
        assert 0.03 < beta < 0.06  # e^(-1/beta) / beta is about 1e-9; it was 1e-6


@pytest.mark.parametrize("num_best", [1, 2, 8, 15])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.501, 0.95])
def test_ties_bound_the_sample_size(num_best, share):
    """With m of n best it is above m."""
    rule, rewards, size = TargetSampleSize(share=share), right(num_best), 16 * share
    beta = rule.beta(rewards)
    assert (rule.unreachable(rewards) is None) == (size >= num_best)
    assert sample_size(rewards, beta) == pytest.approx(max(size, num_best), rel=2e-9)
    assert sample_size(rewards, 1.05 * beta) > max(size, num_best) * (1 + 1.1e-9)
    if size < num_best:
        assert 0.04 < beta < 0.06


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1.0, 1e9, 1e300, 1.7e308])
def test_rewards_of_any_size(scale):
    for rewards in ((scale, 0.0, -scale / 2, scale), (scale, -scale, 0.0, 0.0)):
        for rule in (TargetKL(nats=0.5), TargetSampleSize(share=0.6)):
            beta = rule.beta(rewards)
            assert 0 < beta < math.inf
            if scale < 1e300:
                unit = rule.beta(tuple(reward / scale for reward in rewards))
                assert beta == pytest.approx(unit * scale, rel=1e-6)


def test_why_a_target_is_out_of_reach():
    why = TargetKL(nats=1.0).unreachable(right(8))
    assert "TargetKL(nats=1.0) is out of reach" in why
    assert "8 of 16 draws share the highest reward" in why
    assert "0.693 nats" in why
    why = TargetSampleSize(share=0.3).unreachable(right(8))
    assert "4.8 draws" in why
    assert "8 of 16" in why
    (warning,) = beta_warnings(TargetKL(nats=1.0), right(16))
    assert "all 16 draws have the same reward" in warning
    assert "1 is used" in warning
    (warning,) = beta_warnings(TargetKL(nats=1.0), right(8))
    assert "0.0411" in warning
    assert beta_warnings(TargetKL(nats=0.5), right(8)) == beta_warnings(0.3, right(8)) == ()


def test_what_is_noted():
    assert beta_notes(0.3, ()) == {"beta": 0.3}
    found = beta_notes(TargetKL(nats=1.0), right(8))
    assert found == {"beta": TargetKL(nats=1.0).beta(right(8)), "target_unreachable": True}
    assert not beta_notes(TargetKL(nats=0.1), right(8))["target_unreachable"]

    class Own:
        def beta(self, rewards):
            return 2.0

    assert beta_notes(Own(), right(8)) == {"beta": 2.0, "target_unreachable": False}


def test_a_pool_that_cannot_tell_is_refused():
    with pytest.raises(ConfigError, match="at least 9"):
        TargetKL(nats=2.0).beta(POOL[:4])
    with pytest.raises(ConfigError, match="at least 11"):
        TargetSampleSize(share=0.1).beta(POOL[:10])
    TargetSampleSize(share=0.1).beta(POOL[:11])


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_targets_out_of_range_are_refused(value):
    with pytest.raises(ConfigError):
        TargetKL(nats=value)
    with pytest.raises(ConfigError):
        TargetSampleSize(share=value)
    with pytest.raises(ConfigError):
        TargetSampleSize(share=1.0)


def test_a_number_stands_for_itself():
    assert resolve_beta(0.3, ()) == 0.3
    assert resolve_beta(TargetKL(nats=0.5), POOL) == TargetKL(nats=0.5).beta(POOL)
    with pytest.raises(ConfigError, match="pool"):
        resolve_beta(TargetKL(nats=0.5), ())


@pytest.mark.parametrize("strategy", [QAlign, Quest])
@pytest.mark.parametrize(
    "beta", [0.0, -1.0, math.nan, math.inf, "1", TargetKL, SoftAcceptance(beta=1.0)]
)
def test_what_is_no_beta_is_refused(strategy, beta):
    with pytest.raises(ConfigError, match=rf"{strategy.__name__}\(beta=.* give a finite number"):
        strategy(beta=beta, pool=16)


@pytest.mark.parametrize("strategy", [QAlign, Quest])
def test_a_rule_takes_a_pool(strategy):
    with pytest.raises(ConfigError, match="pool"):
        strategy(beta=TargetKL(nats=1.0))
    strategy(beta=TargetKL(nats=1.0), pool=16)


def test_rules_by_name():
    made = [BETA_RULES["target_kl"](nats=1.0), BETA_RULES["target_sample_size"](share=0.5)]
    assert all(isinstance(rule, BetaRule) for rule in made)


def test_a_target_at_the_very_limit_is_not_out_of_reach():
    """2 of 4 draws share the highest reward: ln 2 nats, and 2 draws, are the limits."""
    rewards = (0.0, 0.0, 1.0, 1.0)
    assert TargetKL(nats=math.log(2)).unreachable(rewards) is None
    assert TargetKL(nats=math.log(2) + 1e-6).unreachable(rewards) is not None
    assert TargetSampleSize(share=0.5).unreachable(rewards) is None
    assert TargetSampleSize(share=0.5 - 1e-6).unreachable(rewards) is not None


@pytest.mark.parametrize("chain", [QAlign, Quest])
@pytest.mark.parametrize(
    ("rule", "least"),
    [
        (TargetKL(nats=1.0), 4),
        (TargetKL(nats=2.5), 14),
        (TargetSampleSize(share=0.5), 3),
        (TargetSampleSize(share=0.1), 11),
    ],
)
def test_a_pool_that_can_never_be_enough_is_refused_before_it_is_drawn(chain, rule, least):
    assert chain(beta=rule, pool=least).pool == least
    with pytest.raises(ConfigError, match=rf"pool={least - 1}\).*at least {least}$"):
        chain(beta=rule, pool=least - 1)


@pytest.mark.parametrize("rule", [TargetKL(nats=1e300), TargetSampleSize(share=5e-324)])
def test_a_target_beyond_all_pools_is_refused_as_one(rule):
    with pytest.raises(ConfigError, match="draw a pool of at least 1"):
        rule.beta(POOL)
    with pytest.raises(ConfigError, match="draw a pool of at least 1"):
        QAlign(beta=rule, pool=16)

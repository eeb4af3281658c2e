"""Rewards and betas at the ends of the floats: the law in the limit, or an error that says so."""

import asyncio
import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest

from rsalign import (
    BestOf,
    Candidate,
    Cards,
    ConfigError,
    FixedSize,
    Key,
    Message,
    Plain,
    Prompt,
    QAlign,
    Response,
    RewardError,
    Stop,
    align,
)
from rsalign.chains.beta_rules import TargetKL, TargetSampleSize
from rsalign.chains.cuts import EntropyCuts, cut_weights
from rsalign.core.journal import Journal
from rsalign.rewards.calibration import calibrated_on
from rsalign.rewards.combine import Capped
from rsalign.rewards.steps import ClippedSteps, Steps
from rsalign.segments.acceptance import SoftAcceptance
from rsalign.segments.thresholds import Line, above_mean
from rsalign.selectors import (
    BestOfMajority,
    ChiSquaredPessimism,
    Hard,
    MajorityVote,
    MinimumBayesRisk,
    RewardWeightedVote,
    Soft,
    StatisticalRejection,
    TopFraction,
)
from rsalign.selectors.estimators import chi_squared_depth, mean_and_sd, tilted_weights
from rsalign.selectors.extraction import WholeText
from rsalign.selectors.utilities import UnigramF1
from rsalign.strategies.calibrate import Calibrate
from rsalign.strategies.power import Power
from rsalign.strategies.quest import Quest
from rsalign.strategies.rejection import Rejection
from rsalign.testing import ToyPolicy, ToyReward

PROMPT = Prompt((Message("user", "1"),), (1,))
HUGE = 1.7e308
TINY = 5e-324


@dataclass(frozen=True)
class Times:
    """The toy reward, scaled."""

    factor: float

    async def score(self, prompt, response):
        return self.factor * ToyReward().value(response.tokens)


@dataclass(frozen=True)
class Says:
    """The same for every response."""

    value: object

    async def score(self, prompt, response):
        return self.value


def run(strategy, reward, seed=0, **settings):
    return asyncio.run(
        align(PROMPT, strategy, policy=ToyPolicy(3), reward=reward, seed=seed, **settings)
    )


def pool(*rewards, texts=None):
    texts = texts or [chr(97 + i) for i in range(len(rewards))]
    return [
        Candidate(Response((i + 1,), text, Stop.EOS, (-0.5,)), reward)
        for i, (text, reward) in enumerate(zip(texts, rewards, strict=True))
    ]


def select(selector, candidates):
    return asyncio.run(selector.select(PROMPT, candidates, Key(0)))


PLAIN = Plain(max_tokens=5)
SCALED = {
    "hard": lambda c: BestOf(n=4, inner=PLAIN),
    "soft": lambda c: BestOf(n=4, inner=PLAIN, select=Soft(temperature=0.5 * c)),
    "weighted": lambda c: BestOf(
        n=4, inner=PLAIN, select=RewardWeightedVote(extract=WholeText(), temperature=0.5 * c)
    ),
    "majority": lambda c: BestOf(n=4, inner=PLAIN, select=MajorityVote(extract=WholeText())),
    "mbr": lambda c: BestOf(
        n=4, inner=PLAIN, select=MinimumBayesRisk(utility=UnigramF1(), temperature=0.5 * c)
    ),
    "statistical": lambda c: BestOf(n=4, inner=PLAIN, select=StatisticalRejection(beta=0.5 * c)),
    "chi_squared": lambda c: BestOf(n=6, inner=PLAIN, select=ChiSquaredPessimism(beta=0.5 * c)),
    "qalign": lambda c: QAlign(beta=0.5 * c, steps=4, max_tokens=5, pool=4),
    "tempered": lambda c: QAlign(beta=0.5 * c, steps=4, max_tokens=5, tempering=(2.0, math.inf)),
    "quest": lambda c: Quest(beta=0.5 * c, steps=4, max_tokens=5),
    "target_kl": lambda c: QAlign(beta=TargetKL(nats=0.5), steps=4, max_tokens=5, pool=4),
    "rejection": lambda c: Rejection(beta=0.5 * c, bound=1.5 * c, max_tokens=5),
    "cards": lambda c: Cards(
        segmenter=FixedSize(2),
        threshold=Line(target=1.0 * c),
        acceptance=SoftAcceptance(beta=0.5 * c),
        max_tokens=5,
    ),
    "calibrate": lambda c: Calibrate(
        inner=Cards(segmenter=FixedSize(2), acceptance=SoftAcceptance(beta=0.5 * c), max_tokens=5),
        draws=4,
        num_sds=0.5,
    ),
}


@pytest.mark.parametrize("factor", [2.0**1020, 2.0**-900], ids=["huge", "tiny"])
@pytest.mark.parametrize("name", SCALED)
def test_the_unit_of_the_reward_changes_nothing(name, factor):
    """A power of two rounds nothing, so that every draw and every answer is the same."""
    for seed in range(4):
        one, other = run(SCALED[name](1.0), Times(1.0), seed), None
        other = run(SCALED[name](factor), Times(factor), seed)
        assert other.candidate.tokens == one.candidate.tokens
        assert len(other.trace.proposals) == len(one.trace.proposals)
        for proposal, scaled in zip(one.trace.proposals, other.trace.proposals, strict=True):
            assert scaled.candidate.tokens == proposal.candidate.tokens
            assert scaled.log_accept == pytest.approx(proposal.log_accept, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("beta", [TINY, 1e-308, 1e-10, 1.0])
@pytest.mark.parametrize(
    "rewards",
    [
        (-HUGE, HUGE, 0.0, HUGE / 2),
        (-1e300, 1e300, 0.0, 5e299),
        (1e20, 1e20 + 2**18, 1e20, 1e20 + 2**17),
    ],
)
def test_the_largest_reward_gets_all_the_weight(rewards, beta):
    candidates = pool(*rewards)
    for selector in (
        Soft(temperature=beta),
        StatisticalRejection(beta=beta),
        RewardWeightedVote(extract=WholeText(), temperature=beta),
        Hard(),
        TopFraction(m=4),
        BestOfMajority(extract=WholeText(), share=0.25),
        MajorityVote(extract=WholeText()),
        MinimumBayesRisk(utility=UnigramF1(), temperature=beta),
    ):
        selection = select(selector, candidates)
        assert selection.probs == (0.0, 1.0, 0.0, 0.0), selector
    assert tilted_weights(rewards, beta) == (0.0, 1.0, 0.0, 0.0)


def test_a_vote_with_equal_weights_is_decided_by_totals_that_are_never_computed():
    rewards = (HUGE, -HUGE, HUGE, HUGE)
    vote = MajorityVote(extract=WholeText())
    assert select(vote, pool(*rewards, texts=["a", "a", "b", "b"])).index == 2


@pytest.mark.parametrize("scale", [1.0, 1e16, 1e300])
def test_chi_squared_pessimism_towards_a_beta_of_zero_is_the_best(scale):
    """Below the rounding of the rewards, too: of the fresh ones the first at the maximum."""
    for beta in (1e-9 * scale, 1e-20 * scale, 1e-300, TINY):
        rewards = [scale * r for r in (0.5, 1.0, 0.25, 0.75, 1.0, 0.0, 0.5)]
        selection = select(ChiSquaredPessimism(beta=beta), pool(*rewards))
        assert selection.index == 4
        assert not selection.notes["fell_back"]
        assert selection.probs[3:] == (0.0, 1.0, 0.0, 0.0)


def test_chi_squared_pessimism_towards_an_infinite_beta_is_the_policy():
    rewards = (0.5, 1.0, 0.25, 0.75, 1.0, 0.0, 0.5)
    for candidates in (pool(*rewards), pool(*(HUGE * r for r in rewards))):
        for bound in (None, HUGE):
            if bound and candidates[1].reward == 1.0:
                continue  # a bound far above all rewards accepts hardly any
            selection = select(ChiSquaredPessimism(beta=HUGE, reward_max=bound), candidates)
            assert selection.probs[3] == pytest.approx(1.0, abs=0.7)
            assert not any(map(math.isnan, selection.probs))


def test_the_depth_of_the_threshold_is_that_of_exact_arithmetic():
    rewards, beta = (1e16, 1e16 - 2, 1e16 - 6), 0.25
    depth = chi_squared_depth(rewards, beta)
    weights = [max(Fraction(0), Fraction(r) - Fraction(1e16) + Fraction(depth)) for r in rewards]
    assert sum(weights) / 3 == Fraction(beta)


@pytest.mark.parametrize("strategy", [QAlign, Quest])
@pytest.mark.parametrize(
    ("beta", "factor"), [(1e-308, 10.0), (1e-308, -10.0), (1e-10, 1e300), (TINY, 1e-10)]
)
def test_a_chain_does_not_take_an_overflow_for_an_exclusion(strategy, beta, factor):
    with pytest.raises(ConfigError, match=rf"{strategy.__name__}\(.*give a larger beta"):
        run(strategy(beta=beta, steps=2, max_tokens=3), Times(factor))


def test_a_power_beyond_the_floats_says_so():
    with pytest.raises(ConfigError, match="smaller power"):
        run(Power(alpha=HUGE, steps=2, max_tokens=6), None)
    assert run(Power(alpha=1e6, steps=2, max_tokens=3), None).candidate.tokens


def test_mean_and_deviation_are_those_of_exact_arithmetic():
    for scale in (1.0, 2.0**1020, 2.0**-1000):
        rewards = [scale * r for r in (1.0, 3.0, -2.0, 0.5)]
        exact = [Fraction(r) for r in rewards]
        mean = sum(exact) / 4
        variance = sum((r - mean) ** 2 for r in exact) / 4
        found_mean, found_sd = mean_and_sd(rewards)
        assert found_mean == float(mean)
        scaled = float(variance / Fraction(scale) ** 2)
        assert found_sd == pytest.approx(scale * math.sqrt(scaled), rel=1e-14)
    assert mean_and_sd([HUGE] * 5) == (HUGE, 0.0)
    assert mean_and_sd([0.0]) == (0.0, 0.0)
    assert above_mean([HUGE, -HUGE], -1.0) == -HUGE


def test_a_target_beyond_the_floats_says_so():
    inner = Cards(segmenter=FixedSize(2), max_tokens=4)
    for num_sds, factor in ((1e300, 1e300), (-1e308, 1e10)):
        with pytest.raises(ConfigError, match=r"Calibrate\(num_sds=.*smaller number"):
            run(Calibrate(inner=inner, draws=4, num_sds=num_sds), Times(factor))


@pytest.mark.parametrize("weight", [0.25, 0.5, 1.0])
def test_a_line_between_the_ends_of_the_floats_is_a_line(weight):
    for target, prompt in ((HUGE, -HUGE), (-HUGE, HUGE), (HUGE, HUGE), (1e300, -1e300)):
        line = Line(target=target, prompt_weight=weight)
        bars = [line.at(n, prompt_reward=prompt, max_tokens=8) for n in range(1, 9)]
        start = Fraction(target) + Fraction(weight) * (Fraction(prompt) - Fraction(target))
        for n, bar in enumerate(bars, start=1):
            exact = min(start + Fraction(n, 8) * (Fraction(target) - start), Fraction(target))
            assert bar == pytest.approx(float(exact), rel=1e-12, abs=1e290)
            accept = SoftAcceptance(beta=TINY).log_accept(-HUGE, bar)
            assert accept in (0.0, -math.inf)
    ordinary = Line(target=0.7, prompt_weight=0.3)
    start = 0.7 + 0.3 * (0.1 - 0.7)
    expected = min(start + 3 * (0.7 - start) / 8, 0.7)
    assert ordinary.at(3, prompt_reward=0.1, max_tokens=8) == expected


@pytest.mark.parametrize("rule", [TargetKL(nats=0.5), TargetSampleSize(share=0.5)])
def test_rules_for_beta_find_a_number_at_any_scale(rule):
    base = rule.beta((0.0, 1.0, 2.0, 3.0))
    for scale in (2.0**1018, 2.0**-900):
        found = rule.beta(tuple(scale * r for r in (0.0, 1.0, 2.0, 3.0)))
        assert found == pytest.approx(scale * base, rel=1e-9)
    for extreme in ((-HUGE, HUGE, 0.0, 1.0), (0.0, TINY, 0.0, 0.0)):
        assert 0 < rule.beta(extreme) < math.inf


def test_a_calibration_without_a_unit_says_so():
    for method in ("z_score", "temperature"):
        for draws in ((0.0, TINY, 0.0), (-HUGE, HUGE, 0.0)):
            with pytest.raises(ConfigError, match="beyond what a float can be divided by"):
                calibrated_on(ToyReward(), draws, method=method)
    scaled = calibrated_on(ToyReward(), (0.0, 1e290, 2e290))
    assert scaled.scale * 1e290 == pytest.approx(math.sqrt(1.5))


@pytest.mark.parametrize(
    "value", [10**400, -(10**400), math.nan, math.inf, None, "1", 1j, [1.0], np.array([1.0, 2.0])]
)
def test_what_is_no_finite_number_is_an_error_of_the_reward(value, tmp_path):
    with Journal(tmp_path / "j") as journal:
        for reward in (Says(value), Capped(Says(value), 1.0)):
            for record in (None, journal):
                with pytest.raises(RewardError, match=r"by Says is .* must be a finite") as failed:
                    run(PLAIN, reward, journal=record)
                assert failed.value.response is not None
                assert len(str(failed.value)) < 400

    class StepSays:
        async def score_steps(self, prompt, response, ends):
            return (value,) * len(ends)

    for reward in (Steps(StepSays(), str), Steps(ClippedSteps(StepSays(), 0.0), str)):
        with pytest.raises(RewardError, match="one finite number per step"):
            run(PLAIN, reward)


@pytest.mark.parametrize(
    "value",
    [np.float32(0.7), np.float64(0.7), np.int64(3), np.bool_(True), True, 3, Fraction(1, 2)],
)
def test_numbers_of_any_kind_are_numbers(value, tmp_path):
    for reward in (Says(value), Capped(Says(value), 10.0)):
        free = run(PLAIN, reward)
        assert free.reward == float(value)
        assert isinstance(free.reward, float)
        assert not type(free.reward).__module__.startswith("numpy")
    with Journal(tmp_path / "j") as journal:
        assert run(PLAIN, Says(value), journal=journal).reward == float(value)
    with Journal(tmp_path / "j") as journal:
        assert run(PLAIN, Says(value), journal=journal).reward == float(value)
        assert journal.statistics().recorded == 0


def test_a_divergence_that_the_draws_cannot_tell_is_not_told():
    chain = QAlign(beta=1.0, steps=40, max_tokens=5)
    told = run(replace(chain, pool=16), Times(0.2)).trace.notes
    assert 0 <= told["kl"] <= math.log(200)
    for seed in range(3):
        notes = run(chain, Times(1e6), seed).trace.notes
        assert notes["log_z"] is not None
        assert notes["kl"] is None or notes["kl"] <= math.log(41)


def test_weights_whose_sum_leaves_the_floats_are_refused():
    with pytest.raises(ConfigError, match="finite, non-negative"):
        Key(0).categorical((1e308, 1e308))

    class Great:
        needs_entropy, fixed = False, False

        def weights(self, positions):
            for _ in positions:
                yield 1e308

    response = Response((1, 2, 0), "1 2", Stop.EOS)
    with pytest.raises(ConfigError, match="only their ratios count"):
        cut_weights(Great(), PROMPT, response, max_tokens=4, decode=str)
    with pytest.raises(ConfigError, match=r"EntropyCuts\(power=1e\+300\)"):
        EntropyCuts(power=1e300)

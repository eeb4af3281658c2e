"""A calibrated reward has the stated spread over the draws it was calibrated on."""

import asyncio
import math
import statistics

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rsalign import ConfigError, Key, Message, Prompt, Response, RewardError, Stop
from rsalign.rewards.calibration import calibrate, calibrated_on, effective_fraction, own_rewards
from rsalign.testing import ToyPolicy, ToyReward, responses

PROMPT = Prompt((Message("user", "1"),), (1,))
OTHER = Prompt((Message("user", "2 1"),), (2, 1))
pools = st.lists(st.integers(-1000, 1000).map(lambda i: i / 8), min_size=2, max_size=20)


def apply(scaled, values):
    return [scaled.scale * value + scaled.shift for value in values]


def spread_out(values):
    assume(len(set(values)) > 1)
    return values


def test_exact_z_score():
    scaled = calibrated_on(ToyReward(), (2, 4, 4, 4, 5, 5, 7, 9))  # mean 5, sd 2
    assert (scaled.scale, scaled.shift) == (0.5, -2.5)
    assert scaled.reward == ToyReward()


@given(pools)
def test_z_scores_have_mean_0_and_sd_1(values):
    scaled = apply(calibrated_on(ToyReward(), spread_out(values)), values)
    assert statistics.fmean(scaled) == pytest.approx(0, abs=1e-9)
    assert statistics.pstdev(scaled) == pytest.approx(1, abs=1e-9)


@given(pools, st.floats(0.01, 100), st.floats(-100, 100))
def test_the_unit_of_the_raw_reward_does_not_matter(values, unit, zero):
    spread_out(values)
    other = [unit * value + zero for value in values]
    assert apply(calibrated_on(ToyReward(), values), values) == pytest.approx(
        apply(calibrated_on(ToyReward(), other), other), abs=1e-6
    )


def test_prompts_are_spread_about_their_own_means():
    """Prompts far apart do not hide how little the answers to one differ."""
    scaled = calibrated_on(ToyReward(), (-1, 1), (99, 101))
    assert (scaled.scale, scaled.shift) == (1, -50)


def test_exact_temperature():
    """Weights (1, w) with (1 + w)^2 = 2 * 0.8 * (1 + w^2): w = 1/3."""
    scaled = calibrated_on(ToyReward(), (0.0, -7.0), method="temperature", ess_fraction=0.8)
    assert scaled.scale == pytest.approx(math.log(3) / 7, rel=1e-9)
    assert scaled.shift == 0


@given(st.lists(pools, min_size=1, max_size=3), st.floats(0.001, 0.999))
def test_temperature_gives_the_stated_effective_sample_size(several, position):
    assume(any(len(set(pool)) > 1 for pool in several))
    least = statistics.fmean(pool.count(max(pool)) / len(pool) for pool in several)
    wanted = least + position * (1 - least)
    scaled = calibrated_on(ToyReward(), *several, method="temperature", ess_fraction=wanted)

    def fraction(pool):  # independent of the code under test: from the definition
        weights = [math.exp((value - max(pool)) * scaled.scale) for value in pool]
        return sum(weights) ** 2 / sum(w * w for w in weights) / len(pool)

    assert statistics.fmean(map(fraction, several)) == pytest.approx(wanted, abs=1e-8)


@given(pools, st.floats(0, 10), st.floats(0, 10))
def test_more_pressure_leaves_fewer_draws(pool, one, other):
    low, high = sorted((one, other))
    assert effective_fraction(pool, high) <= effective_fraction(pool, low) + 1e-12
    assert effective_fraction(pool, 0) == pytest.approx(1)


@pytest.mark.parametrize("method", ["z_score", "temperature"])
@pytest.mark.parametrize(
    "degenerate", [[()], [(0.1,)], [(0.1,) * 7], [(0.1, 0.1), (0.3, 0.3, 0.3)], []]
)
def test_pools_without_a_unit_are_refused(method, degenerate):
    with pytest.raises(ConfigError, match=r"no two of a prompt's draws differ.*num_draws"):
        calibrated_on(ToyReward(), *degenerate, method=method)


@pytest.mark.parametrize("fraction", [0, 0.4, 0.5, 1, 2, -1, math.nan])
def test_fractions_out_of_reach_are_refused(fraction):
    """Half of the draws are best, and count in full at any temperature."""
    says = "above 0 and below 1"
    if 0 < fraction < 1:
        says = r"fraction of 0\.5 have their prompt's best"
    with pytest.raises(ConfigError, match=says):
        calibrated_on(ToyReward(), (1, 0, 1, 0), method="temperature", ess_fraction=fraction)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: calibrated_on(ToyReward(), (1, math.inf)), "item 1 is inf"),
        (lambda: calibrated_on(ToyReward(), (1, 2), method="ranks"), "'z_score' or 'temperature'"),
        (lambda: calibrated_on(None, (1, 2)), "give a reward"),
        (
            lambda: asyncio.run(
                own_rewards(ToyPolicy(), ToyReward(), PROMPT, num_draws=0, max_tokens=1, key=Key(0))
            ),
            "of at least 1",
        ),
    ],
)
def test_what_cannot_work_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def draw(num_draws, seed=0, max_tokens=3):
    return asyncio.run(
        own_rewards(
            ToyPolicy(3),
            ToyReward(),
            PROMPT,
            num_draws=num_draws,
            max_tokens=max_tokens,
            key=Key(seed),
        )
    )


def test_own_rewards_are_those_of_the_policy():
    """4,000 draws against the exact mean and sd: 5 standard errors."""
    exact = responses(ToyPolicy(3), PROMPT.tokens, 3)
    mean = math.fsum(p * ToyReward().value(tokens) for tokens, p in exact.items())
    square = math.fsum(p * ToyReward().value(tokens) ** 2 for tokens, p in exact.items())
    sd = math.sqrt(square - mean**2)
    drawn = draw(4000)
    assert statistics.fmean(drawn) == pytest.approx(mean, abs=5 * sd / math.sqrt(4000))
    assert set(drawn) <= {ToyReward().value(tokens) for tokens in exact}
    assert all(type(value) is float for value in drawn)


def test_own_rewards_depend_on_their_key_alone():
    assert draw(8) == draw(8)
    assert draw(12)[:8] == draw(8)
    assert draw(8, seed=1) != draw(8)


def test_a_reward_is_calibrated_by_drawing():
    settings = {"policy": ToyPolicy(3), "num_draws": 32, "max_tokens": 3, "key": Key(4)}

    async def main():
        scaled = await calibrate(ToyReward(), PROMPT, **settings)
        assert scaled == await calibrate(ToyReward(), [PROMPT], **settings)
        again = await own_rewards(
            ToyPolicy(3), scaled, PROMPT, num_draws=32, max_tokens=3, key=Key(4, ("prompt", 0))
        )
        assert statistics.fmean(again) == pytest.approx(0, abs=1e-12)
        assert statistics.pstdev(again) == pytest.approx(1, abs=1e-12)
        both = await calibrate(
            ToyReward(), [PROMPT, OTHER], method="temperature", ess_fraction=0.6, **settings
        )
        fractions = [
            effective_fraction(
                await own_rewards(
                    ToyPolicy(3),
                    both,
                    prompt,
                    num_draws=32,
                    max_tokens=3,
                    key=Key(4, ("prompt", i)),
                ),
                1,
            )
            for i, prompt in enumerate((PROMPT, OTHER))
        ]
        assert statistics.fmean(fractions) == pytest.approx(0.6, abs=1e-8)

    asyncio.run(main())


def test_a_reward_that_is_no_number_is_told():
    class Broken:
        async def score(self, prompt, response):
            return math.nan

    with pytest.raises(RewardError, match="must be a finite number"):
        asyncio.run(
            own_rewards(ToyPolicy(), Broken(), PROMPT, num_draws=2, max_tokens=2, key=Key(0))
        )


def test_one_unit_serves_rewards_of_any_other():
    """The same response has the same calibrated reward, whatever the raw one's unit was."""

    class Foreign(ToyReward):
        async def score(self, prompt, response):
            return 40 * await super().score(prompt, response) - 7

    async def main():
        settings = {"policy": ToyPolicy(3), "num_draws": 16, "max_tokens": 3, "key": Key(5)}
        response = Response((1, 2, 0), "1 2", Stop.EOS)
        one = await calibrate(ToyReward(), PROMPT, **settings)
        other = await calibrate(Foreign(), PROMPT, **settings)
        assert await one.score(PROMPT, response) == pytest.approx(
            await other.score(PROMPT, response), abs=1e-9
        )

    asyncio.run(main())

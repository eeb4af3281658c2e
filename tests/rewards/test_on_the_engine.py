"""Every combination over the embedded reward model and a function, on answers the policy drew."""

import asyncio
import statistics

import pytest

from rsalign import BestOf, Key, Plain, Response, Stop, align
from rsalign.core.tasks import concurrently
from rsalign.rewards.calibration import calibrate, effective_fraction, own_rewards
from rsalign.rewards.combine import (
    BradleyTerry,
    Capped,
    Direction,
    WeightedSum,
    reference_value,
)
from rsalign.rewards.ensemble import LowerConfidenceBound, Routed
from rsalign.rewards.function import FunctionReward
from rsalign.rewards.steps import ClippedSteps, DeltaSteps
from rsalign.rewards.wrappers import Cached, Metered, Scaled
from rsalign.testing import check_reward

pytestmark = pytest.mark.engine

DRAWS = {"num_draws": 12, "max_tokens": 96}


@pytest.fixture(scope="module")
def brevity():
    """The fewer lines the better."""
    reward = FunctionReward(lambda prompt, response: -float(response.count("\n")))
    yield reward
    reward.close()


@pytest.fixture
def examples(policy, ask):
    """Answers of many lengths, whole and cut, and none at all."""

    async def main():
        drawn = await concurrently(
            policy.extend(ask(i).tokens, max_new_tokens=8 + 12 * i, key=Key(5, (i,)))
            for i in range(8)
        )
        return [
            (ask(i), Response(s.tokens, policy.text(s.tokens), s.stop)) for i, s in enumerate(drawn)
        ] + [(ask(0), Response((), "", None))]

    return asyncio.run(main())


COMBINATIONS = {
    "weighted sum": lambda model, other: WeightedSum([model, other], [0.7, 0.3]),
    "direction": lambda model, other: Direction([model, other], [2, 1]),
    "good in both": lambda model, other: WeightedSum(
        [BradleyTerry(model, 0), BradleyTerry(other, -5)], [1, 1]
    ),
    "capped": lambda model, other: WeightedSum([Capped(model, 0.5), other], [1, 1]),
    "lower confidence bound": lambda model, other: LowerConfidenceBound([model, other], 0.5),
    "routed": lambda model, other: Routed([(lambda p: len(p.tokens) % 2 == 0, model)], other),
    "scaled": lambda model, other: Scaled(model, scale=-2, shift=1),
    "cached": lambda model, other: Cached(WeightedSum([model, other], [1, 1])),
    "metered": lambda model, other: Metered(WeightedSum([model, other], [1, 1])),
}


@pytest.mark.parametrize("combine", COMBINATIONS.values(), ids=COMBINATIONS)
def test_combinations_are_rewards(combine, reward, brevity, examples):
    """The model's own tolerance is 1e-4; no combination here stretches it by more than 2."""
    asyncio.run(check_reward(combine(reward, brevity), examples, tolerance=2e-4))


def test_values_and_costs_are_the_components(reward, brevity, examples):
    async def main():
        both = Metered(WeightedSum([reward, brevity], [1, 2]))
        tokens = 0
        for prompt, response in examples:
            model = await reward.score(prompt, response)
            lines = await brevity.score(prompt, response)
            value = await both.score(prompt, response)
            assert value == pytest.approx(model + 2 * lines, abs=1e-4)
            assert value.tokens == model.tokens
            tokens += model.tokens
        assert both.statistics().calls == len(examples)
        assert both.statistics().tokens == tokens

    asyncio.run(main())


def test_a_strategy_maximises_the_combination(policy, reward, brevity, ask):
    """And a cache in it is asked about each different answer once."""
    strategy = BestOf(n=6, inner=Plain(max_tokens=96))

    async def main():
        asked = Metered(reward)
        cached = Cached(asked)
        both = WeightedSum([cached, Capped(cached, 0), brevity], [1, 1, 0.5])
        result = await align(ask(2), strategy, policy=policy, reward=both, seed=3)
        considered = [proposal.candidate for proposal in result.trace.proposals]
        assert result.reward == max(candidate.reward for candidate in considered)
        different = {(c.response.text, c.response.stop) for c in considered}
        assert asked.statistics().calls == len(different)
        assert asked.statistics().tokens == result.usage.reward_tokens

    asyncio.run(main())


def test_calibration_on_real_draws(policy, reward, ask):
    """The policy draws the same answers again, so the spread is exact to float32's tolerance."""

    async def main():
        prompts = [ask(0), ask(1)]
        settings = {"policy": policy, "key": Key(11), **DRAWS}
        z_score = await calibrate(reward, prompts[0], **settings)
        tempered = await calibrate(
            reward, prompts, method="temperature", ess_fraction=0.5, **settings
        )

        async def again(scaled, i):
            key = Key(11, ("prompt", i))
            return await own_rewards(policy, scaled, prompts[i], key=key, **DRAWS)

        drawn = await again(z_score, 0)
        assert statistics.fmean(drawn) == pytest.approx(0, abs=1e-3)
        assert statistics.pstdev(drawn) == pytest.approx(1, abs=1e-3)
        fractions = [effective_fraction(await again(tempered, i), 1) for i in range(2)]
        assert statistics.fmean(fractions) == pytest.approx(0.5, abs=1e-3)

        raw = await again(reward, 0)
        judged = BradleyTerry(reward, reference_value(raw, quantile=0.5))
        good = [value > -0.6931 for value in await again(judged, 0)]
        assert abs(sum(good) - len(good) / 2) <= 1

    asyncio.run(main())


def test_bounded_steps_of_a_real_answer(policy, reward, ask):
    """The reward model as a step reward: it judges the open answer up to each step's end."""

    class Prefixes:
        async def score_steps(self, prompt, response, ends):
            return tuple(
                await concurrently(
                    reward.score(
                        prompt,
                        Response(
                            response.tokens[:end], policy.text(response.tokens[:end]), Stop.BOUNDARY
                        ),
                    )
                    for end in ends
                )
            )

    async def main():
        drawn = await policy.extend(ask(0).tokens, max_new_tokens=96, key=Key(1, (1,)))
        response = Response(drawn.tokens, policy.text(drawn.tokens), drawn.stop)
        assert response.complete
        ends = (*range(10, len(drawn.tokens), 10), len(drawn.tokens))
        raw = await Prefixes().score_steps(ask(0), response, ends)
        clipped = await ClippedSteps(Prefixes(), 0.5).score_steps(ask(0), response, ends)
        assert clipped == pytest.approx([min(value - 0.5, 0) for value in raw], abs=1e-4)
        delta = await DeltaSteps(Prefixes()).score_steps(ask(0), response, ends)
        assert sum(delta) == pytest.approx(raw[0], abs=1e-3)
        assert delta[-1] == 0
        assert sum(value.tokens for value in delta) == sum(value.tokens for value in raw)

    asyncio.run(main())

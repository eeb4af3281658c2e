"""Clipped and telescoping step rewards: exact values, and what repeating a good step earns."""

import asyncio
import math
import pickle
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsalign import ConfigError, Message, Prompt, Response, RewardError, Stop
from rsalign.core.protocols import Scored, StepReward
from rsalign.rewards.steps import ClippedSteps, DeltaSteps
from rsalign.testing import ToyReward

PROMPT = Prompt((Message("user", "1"),), (1,))
values_of_steps = st.lists(st.floats(-100, 100), max_size=8).map(tuple)


@dataclass(frozen=True)
class Table:
    """The k-th step has the k-th value, and costs k + 1 tokens."""

    values: tuple[float, ...]

    async def score_steps(self, prompt, response, ends):
        return tuple(Scored(value, tokens=k + 1) for k, value in enumerate(self.values))


def steps(step_reward, num_steps, stop=Stop.EOS):
    tokens = (1,) * num_steps
    ends = tuple(range(1, num_steps + 1))
    return asyncio.run(step_reward.score_steps(PROMPT, Response(tokens, "", stop), ends))


@pytest.mark.parametrize("kind", [DeltaSteps, lambda reward: ClippedSteps(reward, 0.5)])
def test_both_are_step_rewards(kind):
    reward = kind(Table((0.5,)))
    assert isinstance(reward, StepReward)
    assert pickle.loads(pickle.dumps(reward)) == reward


def test_exact_values():
    table = Table((0.75, 0.25, 0.5, 1.0))
    assert steps(ClippedSteps(table, 0.75), 4) == (0, -0.5, -0.25, 0)
    assert steps(DeltaSteps(table), 4) == (0.5, -0.25, 0.5, 0)
    assert steps(DeltaSteps(table), 4, Stop.BOUNDARY) == (0.5, -0.25, -0.5, 1)
    assert steps(DeltaSteps(ClippedSteps(table, 0.75)), 4) == (0.5, -0.25, -0.25, 0)


@given(values_of_steps, st.floats(-100, 100))
def test_clipped_steps_never_earn(values, eta):
    clipped = steps(ClippedSteps(Table(values), eta), len(values))
    assert all(value <= 0 for value in clipped)
    assert all((value == 0) == (raw >= eta) for value, raw in zip(clipped, values, strict=True))


@given(values_of_steps, st.sampled_from([Stop.EOS, Stop.LENGTH, Stop.BOUNDARY, None]))
def test_deltas_telescope(values, stop):
    deltas = steps(DeltaSteps(Table(values)), len(values), stop)
    assert len(deltas) == len(values)
    num_counted = len(values) - (stop in (Stop.EOS, Stop.LENGTH))
    for k, value in enumerate(values):
        expected = value if k < num_counted else 0
        assert math.fsum(deltas[k:]) == pytest.approx(expected, abs=1e-9)


@given(values_of_steps.filter(len), st.integers(1, 5))
def test_repeating_a_good_step_earns_nothing(values, times):
    """Against the raw sum, which grows without bound."""
    padded = values[:1] * times + values
    for reward in (DeltaSteps, lambda table: ClippedSteps(table, -100)):
        once = math.fsum(steps(reward(Table(values)), len(values), None))
        again = math.fsum(steps(reward(Table(padded)), len(padded), None))
        assert again == pytest.approx(once, abs=1e-9)


def test_costs_stay_with_their_steps():
    table = Table((1.0, 2.0, 3.0))
    for reward in (ClippedSteps(table, 0), DeltaSteps(table)):
        assert [value.tokens for value in steps(reward, 3)] == [1, 2, 3]


@pytest.mark.parametrize("values", [(1.0,), (1.0, math.inf), (1.0, math.nan), ("a", 1.0)])
@pytest.mark.parametrize("kind", [DeltaSteps, lambda reward: ClippedSteps(reward, 0)])
def test_wrong_step_rewards_are_named(kind, values):
    class Broken:
        async def score_steps(self, prompt, response, ends):
            return values

    with pytest.raises(RewardError, match=r"Broken gave .* for 2 steps"):
        steps(kind(Broken()), 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClippedSteps(Table(()), math.nan), "eta=nan"),
        (lambda: ClippedSteps(ToyReward(), 0), "give a step reward"),
        (lambda: DeltaSteps(None), "give a step reward"),
    ],
)
def test_what_cannot_work_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_closing_reaches_the_step_reward():
    class Closing(Table):
        closed = 0

        def close(self):
            Closing.closed += 1

    DeltaSteps(ClippedSteps(Closing(()), 0)).close()
    assert Closing.closed == 1

"""Quest's kernel by exact transition matrices, and the mean of log-probabilities as a mistake."""

import math
from dataclasses import replace

import numpy as np
import pytest
from chain_law import BETA, PROMPT, Space, drift, imbalance, kernel_matrix

from rsalign import ConfigError
from rsalign.chains.cuts import BlockCuts, EntropyCuts, FixedCuts, UniformCuts
from rsalign.strategies.quest import Quest
from rsalign.testing import ToyPolicy, distance, law_of


def target(space):
    weights = np.exp([state.reward / BETA for state in space.states])
    return weights / weights.sum()


def matrix_of(space, strategy):
    async def step(state, run):
        return (await strategy.step(PROMPT, state, run)).state

    return space.matrix(step)


@pytest.mark.parametrize("cuts", [UniformCuts(), BlockCuts(size=2), EntropyCuts(), FixedCuts()])
@pytest.mark.parametrize("candidates", [1, 2])
@pytest.mark.parametrize("restart", [0.0, 0.4])
def test_the_target_is_the_reward_alone(cuts, candidates, restart):
    space = Space(3, 2, salt=5)
    strategy = Quest(beta=BETA, max_tokens=2, cuts=cuts, candidates=candidates, restart=restart)
    assert imbalance(target(space), matrix_of(space, strategy)) < 1e-12


def test_the_mean_of_log_probabilities_is_another_law():
    space = Space(2, 4, salt=5)
    right = Quest(beta=BETA, max_tokens=4)

    def mean(candidate):
        log_probs = candidate.response.log_probs
        return candidate.reward / BETA - math.fsum(log_probs) / len(log_probs)

    assert drift(target(space), matrix_of(space, right)) < 1e-12
    assert drift(target(space), kernel_matrix(space, right.kernel, mean)) > 1e-2


def test_a_run_is_a_power_of_the_matrix():
    space = Space(2, 3, salt=5)
    strategy = Quest(steps=2, beta=BETA, max_tokens=3)
    matrix = matrix_of(space, strategy)
    found = law_of(strategy, space.policy, space.reward, PROMPT)
    expected = space.base @ matrix @ matrix
    assert distance(found, dict(zip(space.tokens, expected, strict=True))) < 1e-12


class Silent(ToyPolicy):
    """Tells no log-probabilities."""

    async def extend(self, prefix, *, max_new_tokens, key, boundary=None):

        segment = await super().extend(
            prefix, max_new_tokens=max_new_tokens, key=key, boundary=boundary
        )
        return replace(segment, log_probs=None)


def test_a_policy_without_log_probabilities_is_refused():
    space = Space(2, 3)
    with pytest.raises(ConfigError, match="no log-probabilities"):
        law_of(Quest(steps=1, max_tokens=3), Silent(2), space.reward, PROMPT)


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan])
def test_settings_out_of_range_are_refused(beta):
    with pytest.raises(ConfigError, match="Quest\\(beta="):
        Quest(beta=beta)

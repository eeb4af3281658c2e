"""Power's kernel by exact transition matrices, and the published code's rules as mistakes."""

import math

import pytest
from chain_law import PROMPT, Space, drift, imbalance, kernel_matrix

from rsalign import ConfigError
from rsalign.chains.cuts import EntropyCuts, FixedCuts, UniformCuts
from rsalign.chains.kernel import Kernel
from rsalign.selectors import Hard
from rsalign.strategies.power import Power
from rsalign.testing import distance, law_of


def target(space, alpha):
    weights = space.base**alpha
    return weights / weights.sum()


def matrix_of(space, strategy):
    async def step(state, run):
        return (await strategy.step(PROMPT, state, run)).state

    return space.matrix(step)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("cuts", [UniformCuts(), EntropyCuts(), FixedCuts()])
@pytest.mark.parametrize("candidates", [1, 2])
def test_the_target_is_a_power_of_the_policy(alpha, cuts, candidates):
    space = Space(3, 2, salt=6)
    strategy = Power(alpha=alpha, max_tokens=2, cuts=cuts, candidates=candidates)
    assert imbalance(target(space, alpha), matrix_of(space, strategy)) < 1e-12


def test_replicas_are_powers_between():
    space = Space(2, 2, salt=6)
    strategy = Power(steps=1, alpha=3.0, max_tokens=2, tempering=(2.0,))
    cold = matrix_of(space, Power(alpha=3.0, max_tokens=2))
    found = law_of(strategy, space.policy, space.reward, PROMPT)
    expected = space.base @ cold
    assert distance(found, dict(zip(space.tokens, expected, strict=True))) < 1e-12
    hot = kernel_matrix(
        space, strategy.kernel, lambda y: strategy.log_weight(())(y) / strategy.tempering[0]
    )
    assert imbalance(target(space, 2.0), hot) < 1e-12


def test_lengths_that_only_shrink_are_caught():
    class Shrinking(Kernel):
        """A proposal may be no longer than the state, as in the published code."""

        async def _draft(self, prompt, response, cut, run):
            log_probs = response.log_probs[:cut]
            return await run.draft(
                prompt,
                response.tokens[:cut],
                max_tokens=len(response.tokens),
                kept_log_probs=log_probs,
            )

    space = Space(2, 4, salt=6)
    right = Power(alpha=2.0, max_tokens=4)
    wrong = Shrinking(**{name: getattr(right.kernel, name) for name in Kernel.__slots__})
    log_weight = right.log_weight(())
    assert drift(target(space, 2.0), matrix_of(space, right)) < 1e-12
    assert drift(target(space, 2.0), kernel_matrix(space, wrong, log_weight)) > 1e-2


def test_no_reward_is_needed_unless_the_answer_is_chosen_by_it():
    assert not Power().needs_reward
    assert Power(answer=Hard()).needs_reward


@pytest.mark.parametrize("alpha", [-1.0, math.inf, "4"])
def test_settings_out_of_range_are_refused(alpha):
    with pytest.raises(ConfigError, match="Power\\(alpha="):
        Power(alpha=alpha)

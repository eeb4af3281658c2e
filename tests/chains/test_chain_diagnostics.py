"""What chains say about themselves, against series and laws that are known."""

import asyncio
import math

import numpy as np
import pytest
from chain_law import BETA, PROMPT, Space
from scipy.stats import norm

from rsalign import Key, Run
from rsalign.chains.cuts import FixedCuts
from rsalign.chains.diagnostics import effective_samples, log_normaliser, r_hat, summary
from rsalign.chains.history import History, merge_weighted
from rsalign.chains.kernel import Step
from rsalign.core.types import Candidate, Response, Stop
from rsalign.selectors.protocol import certain
from rsalign.strategies.qalign import QAlign


def autoregressive(correlation, chains=4, draws=4000, shift=0.0):
    """Gaussian chains x_t = correlation x_(t-1) + noise; chain c is moved by c times `shift`."""
    noise = norm.rvs(size=(chains, draws), random_state=5)
    rows = np.empty_like(noise)
    rows[:, 0] = noise[:, 0]
    for t in range(1, draws):
        rows[:, t] = correlation * rows[:, t - 1] + (1 - correlation**2) ** 0.5 * noise[:, t]
    return (rows + shift * np.arange(chains)[:, None]).tolist()


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8])
def test_effective_samples_of_a_known_series(correlation):
    rows = autoregressive(correlation)
    expected = 4 * 4000 * (1 - correlation) / (1 + correlation)
    assert effective_samples(rows) == pytest.approx(expected, rel=0.15)


def test_a_vote_has_effective_samples_too():
    """A two-state chain that leaves its state with probability 1/10 has the correlation 0.8."""
    moves = norm.rvs(size=(4, 4000), random_state=2) < norm.ppf(0.1)
    rows = (moves.cumsum(1) % 2).astype(float).tolist()
    assert effective_samples(rows) == pytest.approx(4 * 4000 * 0.2 / 1.8, rel=0.2)


def test_r_hat_sees_chains_that_disagree():
    assert r_hat(autoregressive(0.3)) < 1.01
    assert r_hat(autoregressive(0.3, shift=1.0)) > 1.2


def test_r_hat_of_one_chain_sees_it_drift():
    (row,) = autoregressive(0.3, chains=1)
    assert r_hat([row]) < 1.01
    assert r_hat([[value + t / 1000 for t, value in enumerate(row)]]) > 1.2


@pytest.mark.parametrize("rows", [[[1.0, 2.0, 3.0]], [[2.0] * 9, [2.0] * 9]])
def test_what_cannot_be_told_is_none(rows):
    assert effective_samples(rows) is None
    assert r_hat(rows) is None


def candidate(name, reward, *, length=3, stop=Stop.EOS):
    return Candidate(Response((name,) * length, str(name), stop), reward)


def step(state, before, *, cut=0, probs=(0.5, 0.5), proposal=None):
    moved = state is not before
    considered = (before,) if cut is None else (before, state if moved else proposal)
    return Step(
        state=state,
        cut=cut,
        length=len(before.tokens),
        considered=considered,
        probs=(1.0,) if cut is None else probs,
        moved=moved,
    )


def test_counts_by_hand():
    a, b = candidate(1, 0.5), candidate(2, 1.5, length=2, stop=Stop.LENGTH)
    c = candidate(3, -1.0, length=20)
    first = History(a, [step(b, a, cut=1), step(b, b, cut=None), step(b, b, cut=1, proposal=a)])
    second = History(c, [step(c, c, cut=19, proposal=a), step(c, c, cut=0, proposal=b)])
    second.steps.append(step(a, c, cut=10))
    first.swaps += [True, False]
    second.swaps += [False, False]
    sample = merge_weighted([(a, 1.0), (b, 3.0)])
    notes = summary([first, second], sample, [a, b, c], lambda y: y.reward / 2, burn_in=1)
    assert notes["num_steps"] == 3
    assert notes["acceptance_rate"] == 2 / 5
    assert notes["num_without_cut"] == 1
    assert notes["num_cuts_by_position"] == (1, 0, 0, 1, 0, 2, 0, 0, 0, 1)
    assert notes["num_accepted_by_position"] == (0, 0, 0, 1, 0, 1, 0, 0, 0, 0)
    assert notes["num_distinct_states"] == 3
    assert notes["share_truncated"] == 3 / 6
    assert notes["rewards"] == (1.5, 1.5, 1.5, -1.0, -1.0, 0.5)
    assert notes["mean_reward"] == (0.5 + 3 * 1.5) / 4
    assert notes["swap_rate"] == 1 / 4
    # drawn from the start: the pool, and b in the step of the second chain that cut at 0
    log_z = math.log(sum(math.exp(y.reward / 2) for y in (a, b, c, b)) / 4)
    assert notes["log_z"] == pytest.approx(log_z)
    assert notes["kl"] == pytest.approx(max(0.0, (0.25 + 3 * 0.75) / 4 - log_z))


def test_a_normaliser_without_any_weight_is_unknown():
    assert log_normaliser([candidate(1, 0.0)], lambda y: -math.inf) is None


class AllStates:
    """Chooses the last; it is given all states with their repeats."""

    async def select(self, prompt, candidates, key):
        self.states = candidates
        return certain(len(candidates) - 1, len(candidates))


def chains(space, **settings):
    states = AllStates()
    strategy = QAlign(beta=BETA, max_tokens=space.max_tokens, answer=states, **settings)
    run = Run(space.policy, space.reward, Key(11))
    asyncio.run(strategy.sample(PROMPT, run))
    return states.states, run


@pytest.mark.parametrize(
    "settings", [{}, {"candidates": 2, "recycle": False}, {"restart": 0.3, "pool": 64}]
)
def test_normaliser_divergence_and_mean_reward_converge(settings):
    space = Space(3, 3, salt=2)
    weights = np.exp([state.reward / BETA for state in space.states])
    log_z = math.log(space.base @ weights)
    target = space.tilted(lambda state: state.reward / BETA)
    rewards = np.array([state.reward for state in space.states])
    _, run = chains(space, steps=600, chains=4, **settings)
    notes = run.trace.notes
    assert notes["log_z"] == pytest.approx(log_z, abs=0.1)
    assert notes["kl"] == pytest.approx(target @ rewards / BETA - log_z, abs=0.15)
    assert notes["mean_reward"] == pytest.approx(target @ rewards, abs=0.1)
    assert notes["r_hat_reward"] < 1.05
    assert 100 < notes["ess_reward"] <= 4 * 600 * math.log10(4 * 600)


def test_acceptances_are_counted_from_the_states():
    """Irregular rewards: two different responses never have the same one."""
    space = Space(3, 4, salt=1)
    states, run = chains(space, steps=300, cuts=FixedCuts())
    (trace,) = run.trace.children.values()
    accepted = sum(p.verdict == "accepted" for p in trace.proposals)
    notes = run.trace.notes
    assert notes["acceptance_rate"] == accepted / len(trace.proposals)
    assert notes["num_without_cut"] == 300 - len(trace.proposals)
    assert sum(notes["num_cuts_by_position"]) == len(trace.proposals)
    assert sum(notes["num_accepted_by_position"]) == accepted
    assert notes["num_distinct_states"] == len({state.tokens for state in states})
    assert notes["rewards"] == tuple(state.reward for state in states)

"""Whole runs: what they cost with a journal, replicas at any heat, beta by its rule."""

import asyncio
import itertools
import math
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from chain_law import BETA, PROMPT, Space, kernel_matrix

from rsalign import Candidate, Key, Message, PolicyError, Prompt, Response, Run, Stop, align
from rsalign.chains.beta_rules import TargetKL
from rsalign.chains.board import Board
from rsalign.chains.cuts import EntropyCuts, UniformCuts
from rsalign.chains.ensemble import Ensemble
from rsalign.chains.history import History
from rsalign.chains.kernel import Kernel, Step
from rsalign.chains.metropolis import COMBINE
from rsalign.core.journal import Journal
from rsalign.core.trace import Trace
from rsalign.selectors import MajorityVote
from rsalign.selectors.extraction import WholeText
from rsalign.strategies.qalign import QAlign
from rsalign.testing import ToyPolicy, ToyReward, distance, law

SHORT = QAlign(steps=25, beta=BETA, max_tokens=5)
SETTINGS = {
    "plain": SHORT,
    "everything": replace(
        SHORT,
        cuts=EntropyCuts(),
        restart=0.2,
        candidates=2,
        chains=2,
        pool=4,
        tempering=(2.0, math.inf),
        answer=MajorityVote(extract=WholeText()),
        burn_in=5,
    ),
}


class KilledError(Exception):
    pass


@dataclass(frozen=True)
class Counted(ToyPolicy):
    """Knows the addresses it was asked at, and may die."""

    asked: list = field(default_factory=list)
    dies_after: float = math.inf

    @property
    def fingerprint(self):
        return f"Counted {self.vocab} {self.salt}"

    async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
        if len(self.asked) >= self.dies_after:
            raise KilledError
        self.asked.append(key.path)
        return await super().extend(
            prefix, max_new_tokens=max_new_tokens, key=key, boundary=boundary
        )


def run(strategy, journal=None, policy=None):
    return asyncio.run(
        align(
            PROMPT,
            strategy,
            policy=policy or Counted(4, 2),
            reward=ToyReward(2),
            journal=journal,
            seed=9,
        )
    )


def same(one, other):
    assert one.candidate == other.candidate
    assert one.trace.notes == other.trace.notes
    assert one.usage.policy_tokens_drawn == other.usage.policy_tokens_drawn


@pytest.mark.parametrize("strategy", SETTINGS.values(), ids=SETTINGS)
def test_fifty_steps_extend_twenty_five_and_pay_for_them_only(tmp_path, strategy):
    longer = replace(strategy, steps=50)
    first, later, whole = Counted(4, 2), Counted(4, 2), Counted(4, 2)
    with Journal(tmp_path / "journal") as journal:
        run(strategy, journal, first)
        extended = run(longer, journal, later)
    same(extended, run(longer, policy=whole))
    assert Counter(first.asked) + Counter(later.asked) == Counter(whole.asked)
    assert len(first.asked) < 0.6 * len(whole.asked)
    steps = {path[path.index("step") + 1] for path in later.asked}
    assert steps <= set(range(25, 50))


@pytest.mark.parametrize("strategy", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("dies_after", [1, 7, 20])
def test_a_run_that_was_killed_goes_on_mid_chain(tmp_path, strategy, dies_after):
    whole = Counted(4, 2)
    expected = run(strategy, policy=whole)
    with Journal(tmp_path / "journal") as journal, pytest.raises(PolicyError, match="KilledError"):
        run(strategy, journal, Counted(4, 2, dies_after=dies_after))
    rest = Counted(4, 2)
    with Journal(tmp_path / "journal") as journal:
        same(run(strategy, journal, rest), expected)
    assert dies_after // 2 <= len(whole.asked) - len(rest.asked) <= dies_after


def test_chains_are_added_and_change_nothing():
    one, three = run(SHORT), run(replace(SHORT, chains=3))
    assert three.trace.notes["rewards"][:26] == one.trace.notes["rewards"]


def test_a_step_at_a_time_is_the_run():
    """`step` is public: who drives a chain by hand at the same addresses sees the same states."""

    async def by_hand():
        run = Run(ToyPolicy(4, 2), ToyReward(2), Key(9))
        state = await run.at("start", 0).draft(PROMPT, (), max_tokens=5)
        rewards = [state.reward]
        for t in range(25):
            taken = await SHORT.step(PROMPT, state, run.branch("chain", 0).at("step", t))
            state = taken.state
            rewards.append(state.reward)
        return state, tuple(rewards)

    state, rewards = asyncio.run(by_hand())
    result = run(SHORT)
    assert (result.candidate, result.trace.notes["rewards"]) == (state, rewards)


class Still(Kernel):
    """Moves nothing, so that the exchange of replicas is all there is."""

    async def step(self, prompt, state, log_weight, run):
        return Step(
            state=state,
            cut=None,
            length=len(state.tokens),
            considered=(state,),
            probs=(1.0,),
            moved=False,
        )


STILL = Still(cuts=UniformCuts(), restart=0.0, candidates=1, combine="multi_try", max_tokens=2)


@pytest.mark.parametrize("factors", [(1.0, math.inf), (1.0, 2.0, math.inf), (1.0, 1.5, 4.0)])
def test_a_sweep_of_exchanges_leaves_the_target(factors):
    space = Space(3, 2, salt=4)
    states = dict(zip(space.tokens, space.states, strict=True))

    def log_weight(candidate):
        return candidate.reward / BETA

    targets = [
        space.tilted(lambda y, factor=factor: y.reward / (BETA * factor)) for factor in factors
    ]
    ensemble = Ensemble(kernel=STILL, factors=factors, steps=2)

    async def swept(key):
        drawn = [key.child("target", j).categorical(p) for j, p in enumerate(targets)]
        first = [space.states[i] for i in drawn]
        history = History(first[0])
        board = Board(
            histories=[history], steps=2, burn_in=0, stopping=None, extract=None, trace=Trace()
        )
        await ensemble.run(PROMPT, [first], log_weight, Run(space.policy, space.reward, key), board)
        return history.steps[-1].state.tokens, history.steps[-1].state is not first[0]

    found = law(swept)
    cold = {tokens: sum(p for (y, _), p in found.items() if y == tokens) for tokens in states}
    assert distance(cold, dict(zip(space.tokens, targets[0], strict=True))) < 1e-12
    assert sum(p for (_, exchanged), p in found.items() if exchanged) > 0.3


def test_a_replica_of_infinite_heat_is_the_policy():
    """Its rewards do not matter to it; what it hands down is tilted on the way."""
    strategy = replace(SHORT, steps=400, max_tokens=3, tempering=(math.inf,), chains=4)
    result = run(strategy)
    replica = [
        [p for p in trace.proposals if "replica" in p.address]
        for chain in result.trace.children.values()
        for trace in chain.children.values()
    ]
    accepted = [p.log_accept for trace in replica for p in trace]
    plain = [p.log_accept for chain in result.trace.children.values() for p in chain.proposals]
    assert np.mean(np.exp(accepted)) > np.mean(np.exp(plain)) + 0.1
    assert 0.2 < result.trace.notes["swap_rate"] < 1


def test_beta_is_found_for_each_prompt_from_its_own_pool():
    betas = []
    for token in (1, 2, 3):
        prompt = Prompt((Message("user", str(token)),), (token,))
        strategy = replace(SHORT, steps=1, pool=24, beta=TargetKL(nats=0.8))
        made = Run(ToyPolicy(4, 2), ToyReward(2), Key(9))
        asyncio.run(strategy.sample(prompt, made))

        async def pool(made=made, prompt=prompt):
            return [
                (await made.at("start", i).draft(prompt, (), max_tokens=5)).reward
                for i in range(24)
            ]

        beta = made.trace.notes["beta"]
        weights = np.exp(np.array(asyncio.run(pool())) / beta)
        weights /= weights.sum()
        assert (weights * np.log(24 * weights)).sum() == pytest.approx(0.8, rel=1e-6)
        betas.append(beta)
    assert len(set(betas)) == 3


@pytest.mark.parametrize("combine", COMBINE)
@pytest.mark.parametrize("candidates", [1, 2])
@pytest.mark.parametrize("restart", [0.3, 1.0])
def test_restarts_bound_the_distance_to_the_target(combine, candidates, restart):
    """K(y, .) is at least a multiple of the target everywhere, as the header of QAlign says."""
    space = Space(3, 2, salt=1) if candidates == 1 else Space(2, 3, salt=1)

    def log_weight(candidate):
        return candidate.reward / BETA

    kernel = Kernel(
        cuts=UniformCuts(),
        restart=restart,
        candidates=candidates,
        combine=combine,
        max_tokens=space.max_tokens,
    )
    matrix, target = kernel_matrix(space, kernel, log_weight), space.tilted(log_weight)
    weights = np.exp([log_weight(state) for state in space.states])
    share = restart * (space.base @ weights) / weights.max()
    if combine == "i_sir":  # the present state competes too
        share *= candidates / (candidates + 1)
    assert (matrix / target).min() >= share - 1e-12
    for power in (1, 5):
        law_then = space.base @ np.linalg.matrix_power(matrix, power)
        start = np.abs(space.base - target).sum() / 2
        assert np.abs(law_then - target).sum() / 2 <= start * (1 - share) ** power + 1e-12


def test_a_hot_replica_starts_from_the_pool_as_its_own_target_weighs_it():
    """Of two draws of the policy each start is one, in proportion to w to the power 1 / factor."""
    space = Space(2, 2, salt=1)
    factors = (1.0, 3.0, math.inf)
    strategy = QAlign(beta=0.3, steps=1, max_tokens=space.max_tokens, pool=2, tempering=factors[1:])

    async def starts(key):
        draws = [
            space.states[key.child("draw", i).categorical(tuple(space.base))] for i in range(2)
        ]
        log_weight = strategy.log_weight([draw.reward for draw in draws])
        here = Run(space.policy, space.reward, key)
        (chain,) = strategy._starts(draws, log_weight, factors, here)
        return tuple(state.tokens for state in chain)

    found = law(starts)
    for j, factor in enumerate(factors):
        expected = dict.fromkeys(space.tokens, 0.0)
        for (i, one), (k, other) in itertools.product(enumerate(space.states), repeat=2):
            w = math.exp(one.reward / 0.3 / factor)
            v = math.exp(other.reward / 0.3 / factor)
            mass = space.base[i] * space.base[k]
            expected[one.tokens] += mass * w / (w + v)
            expected[other.tokens] += mass * v / (w + v)
        own = {y: sum(p for chain, p in found.items() if chain[j] == y) for y in space.tokens}
        assert distance(own, expected) < 1e-12


def test_what_the_hottest_replica_has_found_passes_all_others_in_one_sweep():
    low, middle, high = (
        Candidate(Response((token,), str(token), Stop.EOS), reward)
        for token, reward in ((1, 0.0), (2, 10.0), (3, 1000.0))
    )
    history = History(low)
    board = Board(
        histories=[history], steps=2, burn_in=0, stopping=None, extract=None, trace=Trace()
    )
    ensemble = Ensemble(kernel=STILL, factors=(1.0, 2.0, 4.0), steps=2)
    run = Run(ToyPolicy(4), ToyReward(), Key(0))
    asyncio.run(ensemble.run(PROMPT, [[low, middle, high]], lambda state: state.reward, run, board))
    assert history.steps[0].state == low
    assert history.steps[1].state == high

"""Chains with a barrier: the states of those without one, and nobody ahead of anybody."""

import asyncio
from dataclasses import dataclass, field

import pytest
from chain_law import PROMPT

from eval.bench.bare_engine import RecordedPolicy, RecordedReward
from eval.bench.lock_step import lock_step
from rsalign import Key, Run
from rsalign.selectors.protocol import certain
from rsalign.strategies.qalign import QAlign
from rsalign.testing import ToyPolicy, ToyReward

POLICY = ToyPolicy(4, 1)


@dataclass(frozen=True)
class States:
    kept: list = field(default_factory=list)

    async def select(self, prompt, candidates, key):
        self.kept[:] = candidates
        return certain(0, len(candidates))


@dataclass(frozen=True)
class Logged:
    """Policy and reward that write down the order in which they are asked and answer."""

    log: list

    async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
        for _ in range(key.child("slow").below(7)):
            await asyncio.sleep(0)
        segment = await POLICY.extend(
            prefix, max_new_tokens=max_new_tokens, key=key, boundary=boundary
        )
        self.log.append("drawn")
        return segment

    def text(self, tokens):
        return POLICY.text(tokens)

    async def score(self, prompt, response):
        self.log.append("judged")
        return ToyReward(1).value(response.tokens)


def run(strategy, policy, reward, num_prompts=3):
    keys = [Key(5, (i,)) for i in range(num_prompts)]
    return asyncio.run(
        lock_step([PROMPT] * num_prompts, strategy, policy=policy, reward=reward, keys=keys)
    )


@pytest.mark.parametrize("candidates", [1, 3])
def test_it_visits_the_states_of_free_running_chains(candidates):
    kept = States()
    strategy = QAlign(steps=12, max_tokens=5, chains=2, candidates=candidates, answer=kept)
    last = run(strategy, POLICY, ToyReward(1))
    for i in range(3):
        free = Run(POLICY, ToyReward(1), Key(5, (i,)))
        asyncio.run(strategy.sample(PROMPT, free))
        assert last[2 * i : 2 * i + 2] == kept.kept[12::13]


@pytest.mark.parametrize("candidates", [1, 2])
def test_all_draw_then_all_are_judged(candidates):
    log = []
    strategy = QAlign(steps=5, max_tokens=5, chains=2, candidates=candidates)
    run(strategy, Logged(log), Logged(log))
    first, later = 6, 6 * candidates
    expected = ["drawn"] * first + ["judged"] * first
    expected += (["drawn"] * later + ["judged"] * later) * 5
    assert log == expected


def test_what_was_asked_is_on_record():
    policy, reward = RecordedPolicy(POLICY), RecordedReward(ToyReward(1))
    last = run(QAlign(steps=5, max_tokens=5, chains=2), policy, reward)
    assert len(policy.draws) == len(reward.asked) == 3 * 2 * 6
    assert {path[:3] for path, _ in policy.draws} == {
        (i, name, c) for i in range(3) for name in ("start", "chain") for c in range(2)
    }
    lengths = [len(prefix) + drawn - 1 for _, (prefix, drawn) in policy.draws]
    assert sorted(lengths) == sorted(len(response.tokens) for _, response in reward.asked)
    assert all(candidate.response in [r for _, r in reward.asked] for candidate in last)

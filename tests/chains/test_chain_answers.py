"""What answers rest on: which states and proposals count, and how much."""

import asyncio
import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest
from chain_law import PROMPT

from rsalign import Key, Run
from rsalign.core.trace import Trace
from rsalign.core.types import Stop
from rsalign.selectors import Hard, Last, MajorityVote, MinimumBayesRisk, RewardWeightedVote
from rsalign.selectors.protocol import certain
from rsalign.selectors.utilities import ExactMatch
from rsalign.strategies.qalign import QAlign
from rsalign.testing import EOS, ToyPolicy, ToyReward

POLICY, REWARD = ToyPolicy(4, 1), ToyReward(1)
BETA = 0.5
PLAIN = QAlign(steps=24, beta=BETA, max_tokens=4)


def word(text):
    return text[-1:] or None


def run(strategy, seed=0, policy=POLICY, reward=REWARD):
    events = []
    made = Run(policy, reward, Key(seed), Trace(on_progress=events.append))
    return asyncio.run(strategy.sample(PROMPT, made)), made.trace, events


@dataclass(frozen=True)
class Weighed:
    """Chooses the first, and keeps what it was given."""

    given: list = field(default_factory=list)
    weighs: ClassVar[bool] = True

    async def select(self, prompt, candidates, key, *, weights=None):
        self.given[:] = zip(candidates, weights, strict=True)
        return certain(0, len(candidates))


@dataclass(frozen=True)
class Listed:
    """The same of a selector that cannot weigh."""

    given: list = field(default_factory=list)

    async def select(self, prompt, candidates, key):
        self.given[:] = candidates
        return certain(0, len(candidates))


def weighed(strategy, seed=0, **parts):
    selector = Weighed()
    _, trace, _ = run(replace(strategy, answer=selector), seed, **parts)
    return selector.given, trace


def listed(strategy, seed=0, **parts):
    selector = Listed()
    run(replace(strategy, answer=selector), seed, **parts)
    return selector.given


@pytest.mark.parametrize("burn_in", [0, 1, 10, 24])
@pytest.mark.parametrize("chains", [1, 3])
def test_states_count_as_often_as_they_were_visited(burn_in, chains):
    strategy = replace(PLAIN, recycle=False, burn_in=burn_in, chains=chains)
    states = listed(strategy)
    assert len(states) == chains * (25 - burn_in)
    weights = {candidate.tokens: weight for candidate, weight in weighed(strategy)[0]}
    assert weights == Counter(state.tokens for state in states)


@pytest.mark.parametrize("burn_in", [0, 1, 10, 24])
@pytest.mark.parametrize("candidates", [1, 3])
def test_a_recycled_step_is_one_draw_shared_by_all_that_were_considered(burn_in, candidates):
    strategy = replace(PLAIN, burn_in=burn_in, candidates=candidates)
    given, trace = weighed(strategy)
    assert math.fsum(weight for _, weight in given) == pytest.approx(25 - burn_in)
    assert len({candidate.tokens for candidate, _ in given}) == len(given)
    # by what the trace says of each proposal alone
    (chain,) = trace.children.values()
    counted = chain.proposals[max(0, burn_in - 1) * candidates :]
    expected = defaultdict(float)
    if burn_in == 0:
        expected[listed(strategy)[0].tokens] += 1
    for proposal in counted:
        mass = math.exp(proposal.log_accept)
        expected[proposal.candidate.tokens] += mass
        expected[proposal.state.tokens] += 1 / candidates - mass
    found = {candidate.tokens: weight for candidate, weight in given}
    positive = {tokens: mass for tokens, mass in expected.items() if mass > 1e-12}
    assert found == pytest.approx(positive)


@pytest.mark.parametrize("recycle", [False, True])
def test_a_pool_counts_by_its_weights_for_as_many_draws_as_it_is_worth(recycle):
    strategy = replace(PLAIN, pool=8, recycle=recycle)
    (given, trace), pool = weighed(strategy), [run(Plain(i))[0] for i in range(8)]
    tilted = [math.exp(draw.reward / BETA) for draw in pool]
    size = sum(tilted) ** 2 / sum(w * w for w in tilted)
    assert math.fsum(weight for _, weight in given) == pytest.approx(size + 24)
    steps = {y.tokens: w for y, w in weighed(replace(strategy, burn_in=1))[0]}
    found = {y.tokens: w for y, w in given}
    assert found == pytest.approx(steps)  # the start is one of the pool, and never counts again
    for draw in pool:
        share = sum(w for y, w in zip(pool, tilted, strict=True) if y.tokens == draw.tokens) / sum(
            tilted
        )
        assert found[draw.tokens] >= share * size - 1e-9
    assert trace.notes["mean_reward"] == pytest.approx(
        sum(y.reward * w for y, w in given) / (size + 24)
    )


@dataclass(frozen=True)
class Plain:
    """What QAlign's draw number `index` is."""

    index: int

    async def sample(self, prompt, run):
        return await run.at("start", self.index).draft(prompt, (), max_tokens=PLAIN.max_tokens)


def test_a_pool_keeps_small_budgets_from_being_worse_than_its_own_vote():
    """Without any step that counts but one, a flat target's answer is the pool's majority."""
    for seed in range(20):
        strategy = replace(
            PLAIN, beta=1e9, steps=1, pool=33, answer=MajorityVote(extract=word), recycle=False
        )
        answer, _, _ = run(strategy, seed)
        pool = [run(Plain(i), seed)[0] for i in range(33)]
        votes = Counter(word(draw.response.text) for draw in pool)
        votes.pop(None, None)
        (_, most), *others = votes.most_common(2)
        if not others or most > others[0][1] + 1:  # the one step cannot turn it
            assert votes[word(answer.response.text)] == most


CHAINS = replace(PLAIN, chains=2, candidates=2, burn_in=3)


@pytest.mark.parametrize("strategy", [PLAIN, CHAINS, replace(CHAINS, pool=5, tempering=(2.0,))])
@pytest.mark.parametrize("seed", range(4))
def test_every_kind_of_answer(strategy, seed):
    given, _ = weighed(strategy, seed)
    votes, tilted, same = defaultdict(float), defaultdict(float), defaultdict(float)
    for candidate, weight in given:
        same[candidate.response.text] += weight
        if (answer := word(candidate.response.text)) is not None:
            votes[answer] += weight
            tilted[answer] += weight * math.exp(candidate.reward / 0.3)

    def answer(selector):
        return run(replace(strategy, answer=selector), seed)[0]

    by_votes = answer(MajorityVote(extract=word))
    assert votes[word(by_votes.response.text)] == max(votes.values())
    by_rewards = answer(RewardWeightedVote(extract=word, temperature=0.3))
    assert tilted[word(by_rewards.response.text)] == max(tilted.values())
    by_agreement = answer(MinimumBayesRisk(utility=ExactMatch()))
    assert same[by_agreement.response.text] == pytest.approx(max(same.values()))
    assert answer(Hard()).reward == max(candidate.reward for candidate, _ in given)
    assert answer(Last()) == listed(strategy, seed)[-1]


def test_the_highest_reward_may_be_of_a_proposal_that_was_not_taken():
    kept = replace(PLAIN, candidates=4, combine="i_sir", beta=5.0, answer=Hard())
    recycled = [run(kept, seed)[0].reward for seed in range(10)]
    states = [run(replace(kept, recycle=False), seed)[0].reward for seed in range(10)]
    assert all(one >= other for one, other in zip(recycled, states, strict=True))
    assert recycled != states


class Long:
    """Likes what was cut off best."""

    async def score(self, prompt, response):
        return 3.0 if response.stop is Stop.LENGTH else REWARD.value(response.tokens)


@pytest.mark.parametrize("selector", [Hard(), Last(), MajorityVote(extract=word)])
def test_a_start_outside_of_the_target_counts_only_if_there_is_nothing_else(selector):
    # so many steps that the divergence can be told from the draws
    strategy = replace(PLAIN, truncated="excluded", answer=selector, steps=90, max_tokens=3)
    starts = set()
    for seed in range(12):
        states = listed(replace(strategy, truncated="as_scored"), seed, reward=Long())
        starts.add(states[0].response.stop)
        answer, trace, _ = run(strategy, seed, reward=Long())
        assert answer.tokens[-1] == EOS
        assert trace.notes["kl"] is not None
    assert starts == {Stop.EOS, Stop.LENGTH}


def test_nothing_but_the_excluded():
    strategy = replace(PLAIN, truncated="excluded", steps=2, max_tokens=1, pool=3, answer=Hard())
    outcomes = [run(strategy, seed) for seed in range(12)]
    ended = [answer.response.stop is Stop.EOS for answer, _, _ in outcomes]
    assert {True, False} == set(ended)
    for end, (_, trace, _) in zip(ended, outcomes, strict=True):
        assert (trace.notes["log_z"] is None) == (not end)


def test_progress_of_a_vote():
    strategy = replace(PLAIN, chains=2, answer=MajorityVote(extract=word))
    answer, _, events = run(strategy)
    states = listed(strategy)
    rows = [[word(y.response.text) for y in states[c * 25 + 1 : (c + 1) * 25]] for c in (0, 1)]
    assert [event.step for event in events] == list(range(1, 25))
    for event in events:
        votes = Counter(answer for row in rows for answer in row[: event.step])
        assert event.steps == 24
        assert event.share == votes[event.answer] / (2 * event.step)
        votes.pop(None, None)
        assert votes[event.answer] == max(votes.values())
    assert answer.response.complete


@pytest.mark.parametrize("chains", [1, 3])
def test_progress_without_a_vote_is_the_state_that_would_be_the_answer(chains):
    answer, _, events = run(replace(PLAIN, chains=chains))
    assert events[-1].answer == answer.response.text
    assert {event.share for event in events} == {None}

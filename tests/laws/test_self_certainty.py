"""The law of best-of-n by self-certainty, against the published rule on every pool."""

import asyncio
import itertools
import math
import pickle

import pytest
from selector_law import PROMPT, first_word

from rsalign import BestOf, Candidate, ConfigError, Key, Plain, Response, Run, Stop
from rsalign.core.types import Certainty
from rsalign.selectors import MajorityVote, SelfCertainty
from rsalign.selectors.extraction import WholeText
from rsalign.testing import ToyPolicy, ToyReward, distance, law_of, responses

VOCAB, MAX_TOKENS = 3, 2


def self_certainty(policy, tokens):
    """-1/(n V) sum_i sum_j ln(V p(j | x, y_<i)), as published."""
    total = 0.0
    for i in range(len(tokens)):
        total -= math.fsum(math.log(VOCAB * p) for p in policy.probs(PROMPT.tokens + tokens[:i]))
    return total / (VOCAB * len(tokens))


def published_law(policy, reward, n, power):
    """Each pool's winner: (n - r + 1)^p votes for rank r = 1 .. n."""
    base = responses(policy, PROMPT.tokens, MAX_TOKENS)
    certainty = {y: round(self_certainty(policy, y), 12) for y in base}
    law = dict.fromkeys(base, 0.0)
    for pool in itertools.product(base, repeat=n):
        order = sorted(range(n), key=lambda i: (-certainty[pool[i]], i))
        votes, points = {}, {}
        for r, i in enumerate(order, start=1):
            answer = first_word(policy.text(pool[i]))
            votes[answer] = votes.get(answer, 0.0) + (n - r + 1) ** power
        for y in pool:
            answer = first_word(policy.text(y))
            points[answer] = points.get(answer, 0.0) + reward.value(y)
        able = [answer for answer in votes if answer is not None] or [None]
        most = max(votes[answer] for answer in able)
        leading = [a for a in able if math.isclose(votes[a], most)]
        winner = max(leading, key=points.__getitem__)
        mine = [y for y in pool if first_word(policy.text(y)) == winner]
        law[max(mine, key=reward.value)] += math.prod(base[y] for y in pool)
    return law


def found_law(policy, reward, n, select):
    inner = Plain(max_tokens=MAX_TOKENS)
    return law_of(BestOf(n=n, inner=inner, select=select), policy, reward, PROMPT)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.2, 40.0])
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("salt", [0, 1])
def test_the_law(salt, n, power):
    policy, reward = ToyPolicy(VOCAB, salt), ToyReward(salt)
    found = found_law(policy, reward, n, SelfCertainty(extract=first_word, power=power))
    assert distance(found, published_law(policy, reward, n, power)) < 1e-12


def test_power_0_is_the_majority_and_any_other_is_not():
    policy, reward = ToyPolicy(VOCAB), ToyReward()
    majority = found_law(policy, reward, 3, MajorityVote(extract=first_word))
    none, some = (SelfCertainty(extract=first_word, power=power) for power in (0, 2))
    assert distance(found_law(policy, reward, 3, none), majority) < 1e-12
    assert distance(found_law(policy, reward, 3, some), majority) > 0.01


class LessCertain(SelfCertainty):
    """A mistake: the rank upside down."""

    async def select(self, prompt, candidates, key):
        turned = [
            candidate_of(c.response.text, [-v for v in c.response.certainty.self_certainties])
            for c in candidates
        ]
        return await super().select(prompt, turned, key)


class BySum(SelfCertainty):
    """A mistake: the sum over tokens, by which longer answers are more certain."""

    async def select(self, prompt, candidates, key):
        summed = [
            candidate_of(c.response.text, [math.fsum(c.response.certainty.self_certainties)])
            for c in candidates
        ]
        return await super().select(prompt, summed, key)


@pytest.mark.parametrize("mistake", [LessCertain, BySum])
def test_mistakes_show(mistake):
    policy, reward = ToyPolicy(VOCAB), ToyReward()
    found = found_law(policy, reward, 3, mistake(extract=first_word, power=1.2))
    assert distance(found, published_law(policy, reward, 3, 1.2)) > 0.01


def candidate_of(text, self_certainties, reward=0.0):
    tokens = tuple(range(1, len(self_certainties) + 1))
    certainty = Certainty((0.0,) * len(tokens), tuple(self_certainties))
    return Candidate(Response(tokens, text, Stop.EOS, certainty=certainty), reward)


def select(selector, *candidates):
    return asyncio.run(selector.select(PROMPT, candidates, Key(0)))


def test_votes_by_hand():
    pool = (
        candidate_of("a", [1.0, 3.0]),  # mean 2: rank 2, votes 2
        candidate_of("b", [5.0]),  # rank 0, votes 4
        candidate_of("a", [3.0, 3.0, 3.0]),  # rank 1, votes 3
        candidate_of("", [1.0]),  # rank 3, abstains
    )
    found = select(SelfCertainty(extract=WholeText(), power=1.0), *pool)
    assert found.notes["vote_shares"] == pytest.approx((0.5, 0.4, 0.5, 0.0))
    assert found.notes["self_certainties"] == (2.0, 5.0, 3.0, 1.0)
    assert (found.index, found.notes["answer"]) == (0, "a")
    assert select(SelfCertainty(extract=WholeText(), power=9.0), *pool).index == 1


def test_the_first_of_equally_certain_ones_ranks_higher():
    pool = [candidate_of(text, [1.0]) for text in "abc"]
    shares = select(SelfCertainty(extract=WholeText(), power=1.0), *pool).notes["vote_shares"]
    assert shares == pytest.approx((3 / 6, 2 / 6, 1 / 6))


def test_draws_are_measured_because_the_selector_needs_it():
    run = Run(ToyPolicy(VOCAB), ToyReward(), Key(3))
    strategy = BestOf(n=4, inner=Plain(max_tokens=3), select=SelfCertainty(extract=first_word))
    answer = asyncio.run(strategy.sample(PROMPT, run))
    assert len(answer.response.certainty.entropies) == len(answer.tokens)
    plainly = Run(ToyPolicy(VOCAB), ToyReward(), Key(3))
    asyncio.run(BestOf(n=4, inner=Plain(max_tokens=3)).sample(PROMPT, plainly))
    drawn = [[p.candidate for p in each.trace.proposals] for each in (run, plainly)]
    assert drawn[0] == drawn[1], "measuring changed the draws"
    assert {c.response.certainty for c in drawn[1]} == {None}


def test_a_value_with_limits():
    selector = SelfCertainty(extract=WholeText(), power=0.7)
    assert pickle.loads(pickle.dumps(selector)) == selector
    assert not BestOf(select=selector).needs_reward
    for wrong in (-0.1, math.inf, math.nan, "much"):
        with pytest.raises(ConfigError, match="power="):
            SelfCertainty(extract=WholeText(), power=wrong)
    with pytest.raises(ConfigError, match="how certain the policy was of 'a'"):
        select(selector, Candidate(Response((1,), "a", Stop.EOS), 0.0))
    with pytest.raises(ConfigError, match=r"give inner=Plain\(\)"):
        BestOf(inner=BestOf(), select=selector)


def test_a_policy_that_cannot_tell_is_refused():
    class Silent:
        def __init__(self):
            self.toy = ToyPolicy(VOCAB)

        async def extend(self, prefix, **asked):
            return await self.toy.extend(prefix, **asked)

        def text(self, tokens):
            return self.toy.text(tokens)

    run = Run(Silent(), ToyReward(), Key(0))
    with pytest.raises(ConfigError, match="cannot tell how certain"):
        asyncio.run(BestOf(n=2, select=SelfCertainty(extract=first_word)).sample(PROMPT, run))

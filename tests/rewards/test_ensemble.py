"""Doubt costs what it should, and every prompt has its one judge."""

import asyncio
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsalign import ConfigError, Message, Prompt, Response, RewardError, Stop
from rsalign.core.protocols import Reward, Scored
from rsalign.rewards.ensemble import LowerConfidenceBound, Routed
from rsalign.testing import ToyReward, check_reward

PROMPT = Prompt((Message("user", "1"),), (1,))
OTHER = Prompt((Message("user", "2 2"),), (2, 2))
RESPONSE = Response((1, 2, 0), "1 2", Stop.EOS)
EXAMPLES = [
    (PROMPT, Response((1, 2), "1 2", Stop.BOUNDARY)),
    (OTHER, Response((1, 0), "1", Stop.EOS)),
    (PROMPT, Response((), "", None)),
]


class Constant:
    def __init__(self, value, tokens=0):
        self.value, self.tokens, self.asked, self.closed = value, tokens, 0, 0

    async def score(self, prompt, response):
        self.asked += 1
        return Scored(self.value, tokens=self.tokens)

    def close(self):
        self.closed += 1


def is_long(prompt):
    return len(prompt.tokens) > 1


def score(reward, prompt=PROMPT):
    return asyncio.run(reward.score(prompt, RESPONSE))


@pytest.mark.parametrize(
    "reward",
    [
        LowerConfidenceBound([ToyReward(1), ToyReward(2), ToyReward(3)], 0.5),
        Routed([(is_long, ToyReward(1))], ToyReward(2)),
        Routed([], ToyReward(2)),
    ],
    ids=lambda reward: type(reward).__name__,
)
def test_conformance(reward):
    assert isinstance(reward, Reward)
    assert pickle.loads(pickle.dumps(reward)) == reward
    asyncio.run(check_reward(reward, EXAMPLES, tolerance=0))


def test_exact_values():
    members = [Constant(value) for value in (2, 4, 4, 4, 5, 5, 7, 9)]  # mean 5, sd 2
    assert score(LowerConfidenceBound(members, 1.5)) == 2
    assert score(LowerConfidenceBound(members, 0)) == 5


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=8), st.floats(0, 10), st.floats(-1e3, 1e3)
)
def test_doubt_lowers_and_a_common_shift_does_not_matter(values, coefficient, shift):
    bound = score(LowerConfidenceBound([Constant(v) for v in values], coefficient))
    mean = math.fsum(values) / len(values)
    sd = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))
    assert bound == pytest.approx(mean - coefficient * sd, rel=1e-9, abs=1e-6)
    shifted = score(LowerConfidenceBound([Constant(v + shift) for v in values], coefficient))
    assert shifted == pytest.approx(bound + shift, abs=1e-4)


def test_members_that_agree_have_their_own_value():
    assert score(LowerConfidenceBound([Constant(1.5)] * 4, 100)) == 1.5


def test_costs_of_all_members_add_up_but_only_the_chosen_route_is_asked():
    members = [Constant(1, tokens=3), Constant(2, tokens=4)]
    assert score(LowerConfidenceBound(members)).tokens == 7
    routed = Routed([(is_long, members[0])], members[1])
    assert score(routed, PROMPT) == 2
    assert score(routed, PROMPT).tokens == 4
    assert members[0].asked == 1
    assert score(routed, OTHER) == 1
    assert members[0].asked == 2


def test_the_first_route_that_holds_wins():
    routes = [
        (lambda prompt: False, Constant(0)),
        (lambda prompt: True, Constant(1)),
        (lambda prompt: True, Constant(2)),
    ]
    assert score(Routed(routes, Constant(3))) == 1


def test_a_failing_predicate_is_told():
    def fails(prompt):
        raise KeyError("topic")

    with pytest.raises(RewardError, match=r"predicate of Routed raised KeyError\('topic'\)"):
        score(Routed([(fails, ToyReward())], ToyReward()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LowerConfidenceBound([]), "at least 2"),
        (lambda: LowerConfidenceBound([ToyReward()]), "at least 2"),
        (lambda: LowerConfidenceBound([ToyReward()] * 2, -1), "reward doubt"),
        (lambda: LowerConfidenceBound([ToyReward()] * 2, math.nan), "coefficient=nan"),
        (lambda: Routed([(1, ToyReward())], ToyReward()), "pair"),
        (lambda: Routed([(is_long,)], ToyReward()), "pair"),
        (lambda: Routed([(is_long, len)], ToyReward()), "item 0 is"),
        (lambda: Routed([], None), "give a reward"),
    ],
)
def test_what_cannot_work_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_closing_closes_all_members():
    members = [Constant(1), Constant(2), Constant(3)]
    Routed([(is_long, members[0])], LowerConfidenceBound(members[1:])).close()
    assert [member.closed for member in members] == [1, 1, 1]


def test_fingerprints_name_predicates_and_members():
    one = Routed([(is_long, ToyReward(1))], ToyReward(2))
    assert "is_long" in one.fingerprint
    assert one.fingerprint != Routed([(is_long, ToyReward(3))], ToyReward(2)).fingerprint

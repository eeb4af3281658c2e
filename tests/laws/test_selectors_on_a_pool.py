"""What selectors do with given candidates: ties, abstentions and brackets as they are stated.

After independent draws the law of the answer cannot see which of two equal candidates was taken,
nor whether a bracket was drawn fairly; the law of the index can.
"""

import asyncio
import itertools
import pickle
from dataclasses import dataclass

import pytest

from rsalign import (
    BestOf,
    Candidate,
    Key,
    Message,
    Prompt,
    Response,
    Stop,
)
from rsalign.core.types import Certainty
from rsalign.selectors import (
    SELECTORS,
    BestOfMajority,
    ByWeight,
    ChiSquaredPessimism,
    ConfidenceWeightedVote,
    Hard,
    Knockout,
    Last,
    MajorityVote,
    MinimumBayesRisk,
    RewardWeightedVote,
    Selector,
    SelfCertainty,
    Soft,
    StatisticalRejection,
    TopFraction,
)
from rsalign.selectors.extraction import LastNumber
from rsalign.selectors.protocol import certain
from rsalign.selectors.utilities import ExactMatch, Rouge1
from rsalign.testing import BranchKey, distance, law

PROMPT = Prompt((Message("user", "1"),), (1,))
LAST = LastNumber()


def pool(*pairs, log_probs=(-0.5,)):
    return [
        Candidate(
            Response((i + 1,), text, Stop.EOS, log_probs, certainty=Certainty((0.1,), (i % 3,))),
            reward,
        )
        for i, (text, reward) in enumerate(pairs)
    ]


def select(selector, candidates, key=None):
    return asyncio.run(selector.select(PROMPT, candidates, key or Key(0)))


def index_law(selector, candidates):
    async def index(key):
        return (await selector.select(PROMPT, candidates, key)).index

    return law(index)


@dataclass(frozen=True)
class Table:
    """Preferences by text."""

    beats: tuple[str, ...] = ("ab", "bc", "ca", "ad", "bd", "cd")

    async def prefer(self, prompt, one, other):
        return 0.8 if one.text + other.text in self.beats else 0.2


@dataclass(frozen=True)
class Same:
    value: float = 0.5

    async def prefer(self, prompt, one, other):
        return self.value


EVERY = [
    Hard(),
    Soft(temperature=0.7),
    MajorityVote(extract=LAST),
    MajorityVote(extract=LAST, ties="first"),
    RewardWeightedVote(extract=LAST, temperature=0.7),
    ConfidenceWeightedVote(extract=LAST),
    BestOfMajority(extract=LAST, share=0.4),
    MinimumBayesRisk(utility=Rouge1()),
    MinimumBayesRisk(utility=ExactMatch(LAST), temperature=0.7),
    TopFraction(m=2.5),
    ChiSquaredPessimism(beta=0.9),
    ChiSquaredPessimism(beta=0.9, reward_max=3.0),
    ChiSquaredPessimism(beta=0.9, reward_max=-9.0),
    Knockout(judge=Same()),
    StatisticalRejection(beta=0.9),
    Last(),
    ByWeight(),
    SelfCertainty(extract=LAST),
]
POOLS = [
    pool(("1", 0.3)),
    pool(("1", 0.3), ("2", -1.0)),
    pool(("1", -0.4), ("2", 1.7), ("1", 0.2), ("no", 2.0), ("2", 1.7), ("3", -3.0)),
    pool(("1", 0.0), ("2", 0.0), ("2", 0.0), ("1", 0.0), ("", 0.0)),
]


@pytest.mark.parametrize("selector", EVERY, ids=repr)
@pytest.mark.parametrize("candidates", POOLS, ids=len)
def test_probs_are_the_law_of_the_index(selector, candidates):
    found = index_law(selector, candidates)
    probs = select(selector, candidates).probs
    if isinstance(selector, Knockout):  # given the order drawn; here each wins in some
        assert probs.count(1.0) == 1
    else:
        assert distance(found, dict(enumerate(probs))) < 1e-12
    assert len(probs) == len(candidates)


def test_every_selector_is_here():
    assert {type(selector) for selector in EVERY} == set(SELECTORS.values())


@pytest.mark.parametrize("selector", EVERY, ids=repr)
def test_a_selector_is_a_value(selector):
    assert isinstance(selector, Selector)
    assert pickle.loads(pickle.dumps(selector)) == selector
    assert BestOf(select=selector) == BestOf(select=pickle.loads(pickle.dumps(selector)))


# ties and abstentions, as stated


@pytest.mark.parametrize(
    ("selector", "candidates", "chosen"),
    [
        (Hard(), pool(("1", 1), ("2", 2), ("3", 2), ("4", 0)), 1),
        # one vote each: the reward decides, or time
        (MajorityVote(extract=LAST), pool(("1", 1), ("2", 2), ("3", 2)), 1),
        (MajorityVote(extract=LAST, ties="first"), pool(("1", 1), ("2", 2), ("3", 2)), 0),
        # two votes each: total reward 5 against 4, though the highest reward is among the 4
        (MajorityVote(extract=LAST), pool(("1", 4), ("2", 2), ("2", 3), ("1", 0)), 2),
        # two votes each and equal totals: the answer seen first, by its best candidate
        (MajorityVote(extract=LAST), pool(("1", 1), ("2", 2), ("2", 2), ("1", 3)), 3),
        (MajorityVote(extract=LAST, ties="first"), pool(("1", 1), ("2", 9), ("2", 9), ("1", 3)), 3),
        # equal rewards within an answer: its first candidate
        (MajorityVote(extract=LAST), pool(("2", 0), ("1", 0), ("1", 0)), 1),
        # who abstains has no vote that counts, even together
        (MajorityVote(extract=LAST), pool(("no", 9), ("", 9), ("no", 9), ("1", -9)), 3),
        (MajorityVote(extract=LAST), pool(("no", 1), ("", 3), ("never", 3)), 1),
        # exp(-1) + exp(-1) < exp(0), exp(-0.5) + exp(-0.5) > exp(0)
        (
            RewardWeightedVote(extract=LAST, temperature=1.0),
            pool(("1", -3), ("1", -3), ("2", -2)),
            2,
        ),
        (
            RewardWeightedVote(extract=LAST, temperature=2.0),
            pool(("1", -3), ("1", -3), ("2", -2)),
            0,
        ),
        # exactly the share is enough
        (
            BestOfMajority(extract=LAST, share=0.25),
            pool(("1", 0), ("2", 1), ("1", 0), ("no", 9)),
            1,
        ),
        (BestOfMajority(extract=LAST, share=0.3), pool(("1", 0), ("2", 1), ("1", 2), ("no", 9)), 2),
        # nothing is frequent enough: the most frequent
        (BestOfMajority(extract=LAST, share=0.9), pool(("1", 0), ("2", 9), ("1", 2), ("no", 9)), 2),
        # all are equally far from each other
        (MinimumBayesRisk(utility=Rouge1()), pool(("a", 1), ("b", 2), ("c", 2)), 1),
        (MinimumBayesRisk(utility=Rouge1()), pool(("a b", 9), ("c d", 0), ("c e", 0)), 1),
        (Knockout(judge=Same()), pool(("a", 0)), 0),
    ],
)
def test_stated_choices(selector, candidates, chosen):
    assert index_law(selector, candidates) == {chosen: 1.0}


def test_the_boundary_of_the_top_is_cut_by_time():
    candidates = pool(("a", 0), ("b", 1), ("c", 0), ("d", 0))
    assert index_law(TopFraction(m=2), candidates) == {0: 0.5, 1: 0.5}


def test_confidence_is_a_mean():
    """One sure vote beats two unsure ones; a long response is not less sure for its length."""
    sure, unsure = (-0.1,) * 9, (-1.0,)
    candidates = [
        *pool(("1", 0), ("1", 0), log_probs=unsure),
        *pool(("2", 0), log_probs=sure),
    ]
    assert index_law(ConfidenceWeightedVote(extract=LAST), candidates) == {2: 1.0}


@dataclass(frozen=True, kw_only=True)
class LastAmongEquals(Hard):
    async def select(self, prompt, candidates, key):
        n = len(candidates)
        return certain(max(range(n), key=lambda i: (candidates[i].reward, i)), n)


def test_a_tie_that_goes_to_the_last_is_caught():
    candidates = pool(("1", 1), ("2", 2), ("3", 2))
    assert index_law(LastAmongEquals(), candidates) != index_law(Hard(), candidates)


# brackets


def bracket(order, wins):
    """Neighbours meet; who is left over begins the next round."""
    while len(order) > 1:
        left_over = order[len(order) - len(order) % 2 :]
        pairs = zip(order[::2], order[1::2], strict=False)
        order = left_over + tuple(one if wins(one, other) else other for one, other in pairs)
    return order[0]


def over_orders(n, wins):
    winners = [bracket(order, wins) for order in itertools.permutations(range(n))]
    return {i: winners.count(i) / len(winners) for i in set(winners)}


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_brackets(n):
    candidates = pool(*((text, 0.0) for text in "abcde"[:n]))
    table = Table((*Table().beats, "ae", "eb", "ec", "de"))

    def wins(one, other):
        return "abcde"[one] + "abcde"[other] in table.beats

    assert distance(index_law(Knockout(judge=table), candidates), over_orders(n, wins)) < 1e-12
    first = index_law(Knockout(judge=Same(1.0)), candidates)  # a judge who only sees positions
    assert distance(first, over_orders(n, lambda one, other: True)) < 1e-12
    tied = index_law(Knockout(judge=Same(0.5)), candidates)
    assert distance(tied, over_orders(n, lambda one, other: one < other)) < 1e-12
    record = select(Knockout(judge=table), candidates).notes
    assert record["num_comparisons"] == n - 1
    assert record["preferences"] == (0.8,) * (n - 1)


class OneSwapKey(BranchKey):
    """A key whose children are itself: every swap has the same address."""

    def child(self, *labels):
        return OneSwapKey(self.root, self.path or labels[:1], self.tree)


@dataclass(frozen=True, kw_only=True)
class SameKey(Knockout):
    async def select(self, prompt, candidates, key):
        return await Knockout.select(self, prompt, candidates, OneSwapKey(0, (), key.tree))


def test_a_bracket_drawn_with_one_key_is_caught():
    candidates = pool(("a", 0), ("b", 0), ("c", 0))
    right = over_orders(3, lambda one, other: True)
    assert distance(index_law(SameKey(judge=Same(1.0)), candidates), right) > 0.1

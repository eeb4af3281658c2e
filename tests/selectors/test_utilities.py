import asyncio
import math
import pickle
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsalign import Key, QAlign, StrategyError
from rsalign.chains.stopping import DecidedLead
from rsalign.core.align import align
from rsalign.core.types import Candidate, Message, Prompt, Response, Stop
from rsalign.selectors import MajorityVote
from rsalign.selectors.extraction import LastNumber
from rsalign.selectors.utilities import (
    UTILITIES,
    ExactMatch,
    Rouge1,
    UnigramF1,
    expected_utilities,
)
from rsalign.testing import ToyPolicy, ToyReward

EVERY = [UnigramF1(), Rouge1(), ExactMatch(), ExactMatch(LastNumber())]
texts = st.lists(st.text("ab12 ", max_size=12), min_size=1, max_size=6)
PROMPT = Prompt((Message("user", "1"),), (1,))


def f1(one, other):
    """Precision and recall of counted words."""
    common = sum(min(one[word], other[word]) for word in one)
    if not one and not other:
        return 1.0
    if not common:
        return 0.0
    precision, recall = common / one.total(), common / other.total()
    return 2 * precision * recall / (precision + recall)


@given(texts)
def test_f1_of_counts_and_of_sets(pool):
    for i, one in enumerate(pool):
        for j, other in enumerate(pool):
            counts = f1(Counter(one.split()), Counter(other.split()))
            sets = f1(Counter(set(one.split())), Counter(set(other.split())))
            assert Rouge1().table(pool)[i][j] == pytest.approx(counts)
            assert UnigramF1().table(pool)[i][j] == pytest.approx(sets)


@pytest.mark.parametrize("utility", EVERY, ids=repr)
@given(pool=texts)
def test_a_table_is_of_pairs(utility, pool):
    assert utility.table(pool) == [[utility(one, other) for other in pool] for one in pool]
    for one in pool:
        for other in pool:
            assert 0 <= utility(one, other) == utility(other, one) <= 1


@pytest.mark.parametrize("utility", EVERY, ids=repr)
@given(pool=texts, data=st.data())
def test_expected_utilities(utility, pool, data):
    raw = data.draw(st.lists(st.floats(0.1, 1), min_size=len(pool), max_size=len(pool)))
    weights = [weight / sum(raw) for weight in raw]
    fast = expected_utilities(utility, pool, weights)
    slow = expected_utilities(lambda one, other: utility(one, other), pool, weights)
    assert fast == slow
    for one, value in zip(pool, fast, strict=True):
        mean = sum(w * utility(one, other) for w, other in zip(weights, pool, strict=True))
        assert value == pytest.approx(mean)


def test_the_first_text_is_the_candidate():
    """A utility may be asymmetric."""
    expected = expected_utilities(lambda one, other: float(one < other), ["a", "b"], [0.25, 0.75])
    assert expected == (0.75, 0.0)


def test_exact_match_is_of_answers():
    assert ExactMatch(LastNumber())("1 = 3.0", "so 3") == 1
    assert ExactMatch(LastNumber())("none", "none") == 0
    assert ExactMatch()(" a  b", "a b ") == 1
    assert ExactMatch()("", "") == 0


def test_equal_sums_are_equal_in_any_order():
    """Else rounding would break ties."""
    pool = [f"{i} {i + 1} {i + 2}" for i in range(40)]
    pool.append("0 39 x")
    expected = expected_utilities(Rouge1(), [*pool, *reversed(pool)], [1 / 82] * 82)
    assert expected == expected[::-1]


def test_a_large_pool():
    pool = [" ".join(str(i * j % 97) for j in range(200)) for i in range(256)]
    assert all(map(math.isfinite, expected_utilities(Rouge1(), pool, [1 / 256] * 256)))


def test_utilities_are_values():
    assert {type(utility) for utility in EVERY} == set(UTILITIES.values())
    for utility in EVERY:
        assert pickle.loads(pickle.dumps(utility)) == utility


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "1", 1j, [1.0], 10**400])
def test_a_utility_that_is_no_finite_number_is_refused(value):
    def mine(candidate, reference):
        return value

    with pytest.raises(StrategyError, match=r"mine returned .*, but must return a finite number"):
        expected_utilities(mine, ["a", "b"], (0.5, 0.5))


@pytest.mark.parametrize("table", [[[1.0]], [[1.0, 0.0]], [[1.0], [0.0, 1.0]], []])
def test_a_table_of_another_shape_is_refused(table):
    class Mine:
        def __call__(self, candidate, reference):
            return 1.0

        def table(self, texts):
            return table

    with pytest.raises(StrategyError, match="Mine must have 2 rows and columns"):
        expected_utilities(Mine(), ["a", "b"], (0.5, 0.5))


@pytest.mark.parametrize(
    "extract", [len, lambda text: math.nan, lambda text: [text], lambda text: b"a"]
)
def test_an_answer_that_is_no_text_is_refused(extract):
    candidates = [Candidate(Response((i,), text, Stop.EOS), 0.0) for i, text in enumerate("ab")]
    with pytest.raises(StrategyError, match=r"the extractor .* must return text or None"):
        asyncio.run(MajorityVote(extract=extract).select(PROMPT, candidates, Key(0)))
    with pytest.raises(StrategyError, match=r"the extractor .* must return text or None"):
        expected_utilities(ExactMatch(extract), ["a", "b"], (0.5, 0.5))
    chain = QAlign(
        steps=4,
        beta=1.0,
        max_tokens=4,
        answer=MajorityVote(extract=extract),
        stopping=DecidedLead(error=0.1),
    )
    with pytest.raises(StrategyError, match=r"the extractor .* must return text or None"):
        asyncio.run(align(PROMPT, chain, policy=ToyPolicy(), reward=ToyReward()))

"""Combined rewards name their components; a model of several labels has one for each."""

import asyncio

import pytest

from rsalign import FunctionReward, Message, Prompt, Response, Stop, WeightedSum
from rsalign.rewards import Capped, Direction, LowerConfidenceBound, Scaled
from rsalign.rewards.labels import LabelChoice
from rsalign.rewards.parts import component_names
from rsalign.testing import ToyReward

PROMPT = Prompt((Message("user", "Hi"),), (1,))
RESPONSE = Response((2, 3), "Hello", Stop.EOS)


def length(prompt, response):
    return float(len(response))


def parts(reward):
    return dict(asyncio.run(reward.score(PROMPT, RESPONSE)).parts)


def test_each_part_of_a_combination_is_a_component():
    toy, other = ToyReward(), ToyReward(salt=1)
    values = {"toy": toy.value((2, 3)), "length": 5.0}
    for made in (WeightedSum, Direction):
        assert parts(made([toy, FunctionReward(length)], [1.0, 2.0])) == values
    bound = LowerConfidenceBound([toy, other, FunctionReward(lambda p, r: 1.0)])
    assert parts(bound) == {
        "toy_1": toy.value((2, 3)),
        "toy_2": other.value((2, 3)),
        "function": 1.0,
    }


def test_components_of_components_keep_both_names():
    inner = WeightedSum([ToyReward(), FunctionReward(length)], [1.0, 1.0])
    whole = WeightedSum([Capped(Scaled(inner, 2.0), 3.0), FunctionReward(length)], [1.0, 1.0])
    found = parts(whole)
    assert {"capped", "length"} < found.keys()
    assert found["capped.length"] == 5.0
    assert found["capped"] == 3.0


def test_names_do_not_collide():
    assert component_names([ToyReward(), ToyReward(), FunctionReward(length)]) == [
        "toy_1",
        "toy_2",
        "length",
    ]


@pytest.mark.parametrize("label", [[0.5, 0.25], "good", {"log_odds": "good"}])
def test_labels_are_components(label):
    reader = LabelChoice.of(label).reader("org/two", ("bad", "good"))
    scored = reader.scored((0.5, 2.0), tokens=7, cached_tokens=3)
    assert scored == reader.read((0.5, 2.0))
    assert (scored.tokens, scored.cached_tokens) == (7, 3)
    assert scored.parts == {"bad": 0.5, "good": 2.0}


def test_one_label_has_no_components_and_many_only_those_of_the_reward():
    assert LabelChoice.of(None).reader("org/one", ("score",)).scored((1.0,)).parts == {}
    names = tuple(f"l{i}" for i in range(1000))
    many = LabelChoice.of({"l3": 1.0, "l5": -1.0}).reader("org/many", names)
    assert set(many.scored(tuple(map(float, range(1000)))).parts) == {"l3", "l5"}

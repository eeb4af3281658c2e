"""Graders that ask a reward."""

import asyncio
import math
from dataclasses import dataclass

import pytest

from eval.graders.harm import HARM, harmlessness
from eval.graders.reward import BeatsReference, ByReward
from eval.tasks.protocol import Item
from rsalign import ConfigError, Message, Prompt, Response, RewardError, Stop
from rsalign.rewards import FunctionReward, ProbabilityJudge
from rsalign.testing import ToyPolicy

ITEM = Item(id="a", messages=(Message("user", "?"),), gold={"chosen": "four", "rejected": None})
PROMPT = Prompt(ITEM.messages, (1,))


@dataclass
class Fixed:
    """A reward of these values, by text."""

    values: dict

    async def score(self, prompt, response):
        value = self.values[response.text]
        if isinstance(value, Exception):
            raise value
        return value


@dataclass
class Longer:
    """Prefers the longer text."""

    async def prefer(self, prompt, one, other):
        return 0.5 + (len(one.text) > len(other.text)) / 2 - (len(one.text) < len(other.text)) / 2


def grade(grader, text, item=ITEM):
    return asyncio.run(grader.grade(item, PROMPT, Response((2,), text, Stop.EOS)))


@pytest.mark.parametrize(
    ("value", "scale", "threshold", "score"),
    [
        (1.0, "above", 0.5, 1),
        (0.5, "above", 0.5, 0),
        (-1.0, "above", 0.5, 0),
        (0.25, "probability", 0.5, 0.25),
        (1.5, "probability", 0.0, None),
        (-0.5, "probability", 0.0, None),
        (2.0, "logistic", 2.0, 0.5),
        (math.log(3), "logistic", 0.0, 0.75),
        (-900.0, "logistic", 0.0, 0),
        (900.0, "logistic", 0.0, 1),
        (math.nan, "above", 0.0, None),
        (math.inf, "logistic", 0.0, None),
        (RewardError("it broke"), "above", 0.0, None),
        (ConfigError("it is too long"), "above", 0.0, None),
    ],
)
def test_by_reward(value, scale, threshold, score):
    found = grade(ByReward(reward=Fixed({"x": value}), scale=scale, threshold=threshold), "x")
    if score is None:
        assert found.score is None
        assert found.details["ungradable"]
    else:
        assert found.score == pytest.approx(score)
        assert found.details == {"reward": value, "tie": scale == "above" and value == threshold}


@pytest.mark.parametrize("settings", [{"scale": "linear"}, {"threshold": math.nan}])
def test_settings(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        ByReward(reward=Fixed({}), **settings)


@pytest.mark.parametrize("reward", [FunctionReward(lambda prompt, text: len(text)), Longer()])
def test_beats_reference(reward):
    grader = BeatsReference(reward=reward, reference="chosen")
    scores = {text: grade(grader, text) for text in ("three", "nine", "two")}
    assert {text: found.score for text, found in scores.items()} == {
        "three": 1,
        "nine": 0,
        "two": 0,
    }
    assert [found.details["tie"] for found in scores.values()] == [False, True, False]
    for item, key in (
        (ITEM, "rejected"),
        (ITEM, "reference"),
        (Item(id="b", messages=()), "chosen"),
    ):
        none = grade(BeatsReference(reward=reward, reference=key), "x", item)
        assert none.score is None
        assert key in none.details["ungradable"]


def test_a_reward_that_fails_grades_nothing():
    for values in (
        {"x": RewardError("it broke"), "four": 1.0},
        {"x": 1.0, "four": ConfigError("it is too long")},
        {"x": math.nan, "four": 1.0},
    ):
        found = grade(BeatsReference(reward=Fixed(values), reference="chosen"), "x")
        assert found.score is None
        assert found.details["ungradable"]


@dataclass(frozen=True, slots=True)
class ToyJudge(ToyPolicy):
    """A toy that reads any text, one id a character."""

    vocab: int = 7

    def encode(self, text):
        return tuple(1 + ord(char) % (self.vocab - 1) for char in text)

    def encode_chat(self, messages, *, chat_template=None, add_generation_prompt=True):
        return self.encode("|".join(message.content for message in messages))


def test_a_judge_of_harm():
    judge = harmlessness(ToyJudge())
    assert judge == ProbabilityJudge(ToyJudge(), HARM, returns="probability")
    grader = ByReward(reward=judge, scale="probability")
    found = grade(grader, "I will not help.")
    assert 0 < found.score < 1
    assert found.score == found.details["reward"]
    assert HARM.choices[0] == "No"  # the first choice is the good one: no help was given
    asked = HARM.messages(prompt="How?", response="So.")[-1].content
    assert "How?" in asked
    assert "So." in asked

"""Reasoning models: the laws are those of whole responses under the reward of the answer alone."""

import asyncio
import math

import pytest
from chain_law import BETA, PROMPT
from thinking import END, ReadingReward, ThinkingPolicy, divided

from rsalign import BestOf, Budget, FixedSize, Plain, align
from rsalign.core.text.reasoning import Reasoning
from rsalign.segments.thresholds import Line
from rsalign.strategies.cards import Cards
from rsalign.strategies.rejection import Rejection
from rsalign.testing import ToyPolicy, distance, law_of, responses

POLICY, REWARD = ThinkingPolicy(vocab=3, salt=2), ReadingReward(salt=1)
BASE = responses(POLICY, PROMPT.tokens, 4)


def reward_of_answer(tokens):
    return REWARD.of_text(divided(tokens)[1] or "")


HIGHEST = max(map(reward_of_answer, BASE))
LONG = max(
    (ThinkingPolicy(3, salt) for salt in range(9)),
    key=lambda policy: policy.probs((1,))[2] * policy.probs((1, 2))[2] * policy.probs((1, 2, 2))[2],
)
"""The one that thinks longest."""


def test_rejection_tilts_whole_responses_by_the_reward_of_their_answers():
    strategy = Rejection(beta=BETA, bound=HIGHEST, max_tokens=4, max_draws=1)
    found = law_of(strategy, POLICY, REWARD, PROMPT)
    # one draw: it is accepted, or it is the only one to choose from
    assert distance(found, BASE) < 1e-12
    strategy = Rejection(beta=BETA, bound=HIGHEST, max_tokens=4, max_draws=2)
    accept = {y: math.exp((reward_of_answer(y) - HIGHEST) / BETA) for y in BASE}
    expected = {y: p * accept[y] for y, p in BASE.items()}
    for one, p in BASE.items():
        for y, q in BASE.items():
            mass = p * (1 - accept[one]) * q
            expected[y] += mass * accept[y]
            forced = mass * (1 - accept[y])
            total = accept[one] + accept[y]
            expected[y] += forced * accept[y] / total
            expected[one] += forced * accept[one] / total
    assert distance(law_of(strategy, POLICY, REWARD, PROMPT), expected) < 1e-12


def test_best_of_takes_the_best_answer_whatever_the_thought_is():
    found = law_of(BestOf(n=2, inner=Plain(max_tokens=3)), POLICY, REWARD, PROMPT)
    base = responses(POLICY, PROMPT.tokens, 3)
    expected = dict.fromkeys(base, 0.0)
    for one, p in base.items():
        for other, q in base.items():
            best = one if reward_of_answer(one) >= reward_of_answer(other) else other
            expected[best] += p * q
    assert distance(found, expected) < 1e-12


class Listener(ReadingReward):
    """Keeps what it was asked to judge."""

    def __init__(self):
        super().__init__(salt=1)
        object.__setattr__(self, "heard", [])

    __slots__ = ("heard",)

    async def score(self, prompt, response):
        self.heard.append(response)
        return await super().score(prompt, response)


@pytest.mark.parametrize("how", [{}, {"judge_thought": False}, {"keep": True}])
def test_partial_responses_are_judged_by_their_thought_and_complete_ones_by_their_answer(how):
    policy, listener = ThinkingPolicy(3, 5, how=Reasoning("toy", **how)), Listener()
    strategy = Cards(segmenter=FixedSize(2), threshold=Line(target=1.0), max_tokens=8, max_tries=2)
    for seed in range(20):
        result = asyncio.run(align(PROMPT, strategy, policy=policy, reward=listener, seed=seed))
        thought, answer = divided(result.candidate.tokens)
        response = result.candidate.response
        assert response.reasoning == thought
        assert response.text == (policy.text(response.tokens) if how.get("keep") else answer or "")
    kinds = set()
    for response in listener.heard:
        thought, answer = divided(response.tokens)
        kinds.add((response.complete, answer is None))
        if how.get("keep"):
            assert response.text == policy.text(response.tokens)
        elif answer is None and not response.complete and how.get("judge_thought", True):
            assert response.text == (thought or "")
        else:
            assert response.text == (answer or "")
    assert kinds == {(True, True), (True, False), (False, True), (False, False)}


def test_an_answer_cut_within_its_thought_is_empty_and_said_so():
    base = responses(LONG, PROMPT.tokens, 2)
    cut = [y for y in base if y[-1] != 0 and divided(y)[0] and not divided(y)[1]]
    results = [
        asyncio.run(align(PROMPT, Plain(max_tokens=2), policy=LONG, reward=REWARD, seed=seed))
        for seed in range(40)
    ]
    assert any(result.candidate.tokens in cut for result in results)
    for result in results:
        is_cut = result.candidate.tokens in cut
        assert (
            any("before anything came after their thought" in text for text in result.warnings)
            == is_cut
        )
        assert not is_cut or result.candidate.response.text == ""


def test_a_thought_that_nobody_divides_is_noticed():
    class Undivided(ToyPolicy):
        def text(self, tokens):
            return ToyPolicy.text(self, tokens).replace("1", "</think>")

    for seed in range(5):
        run = align(PROMPT, Plain(max_tokens=4), policy=Undivided(3, 2), seed=seed)
        result = asyncio.run(run)
        told = any("reasoning_parser='qwen3'" in text for text in result.warnings)
        assert told == (END in result.candidate.tokens)


def test_a_budget_that_ends_within_the_thought_leaves_an_empty_answer():
    ended = []
    for seed in range(30):
        strategy = Cards(
            segmenter=FixedSize(2), threshold=Line(target=1.0), max_tokens=40, max_tries=3
        )
        budget = Budget(policy_tokens=3)
        run = align(PROMPT, strategy, policy=LONG, reward=REWARD, seed=seed, budget=budget)
        result = asyncio.run(run)
        response = result.candidate.response
        if result.expired and not response.complete:
            assert response.text == (divided(response.tokens)[1] or "")
            ended.append(divided(response.tokens)[1] is None and bool(response.tokens))
    assert any(ended)

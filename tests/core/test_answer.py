"""One path for all doors: addresses, repeats, ranking and failures of the answers to one prompt."""

import asyncio

import pytest

from rsalign import Aligner, BestOf, Cards, FixedSize, Key, Message, Plain, Prompt, StrategyError
from rsalign.core.answer import AnswerListener, answer, prompt_key, rank_results
from rsalign.core.capabilities import answers_in_one_draw, missing_setting
from rsalign.core.types import Sampling
from rsalign.strategies.calibrate import Calibrate
from rsalign.testing import ToyPolicy, ToyReward

PROMPT = Prompt((Message("user", "1"),), (1,))
BEST = BestOf(n=3, inner=Plain(max_tokens=6))
CARDS = Cards(segmenter=FixedSize(2), max_tokens=6)


class Greedy(ToyPolicy):
    @property
    def sampling(self):
        return Sampling(temperature=0.0)


class Recorder(AnswerListener):
    def __init__(self):
        self.watched, self.committed, self.answers = [], {}, {}

    def watch_policy(self, sample, policy):
        self.watched.append(sample)
        return policy

    def on_commit(self, sample, tokens):
        self.committed[sample] = self.committed.get(sample, ()) + tokens

    def on_answer(self, sample, result):
        self.answers[sample] = result


def draw(strategy=BEST, *, policy=None, **given):
    given = {"policy": policy or ToyPolicy(6), "reward": ToyReward(), "key": Key(3)} | given
    return asyncio.run(answer(PROMPT, strategy, **given))


def test_it_is_what_the_aligner_does():
    class Tunable(ToyPolicy):
        def with_sampling(self, sampling):
            return self

    from vllm import SamplingParams

    with Aligner(Tunable(6), ToyReward(), BEST, seed=5) as aligner:
        (output,) = aligner.generate(
            {"prompt": "1", "id": "mine"}, SamplingParams(n=4, max_tokens=6), use_tqdm=False
        )
    prompt = Prompt((Message("user", "1"),), tuple(output.prompt_token_ids))
    results = asyncio.run(
        answer(
            prompt,
            BEST,
            policy=Tunable(6),
            reward=ToyReward(),
            key=prompt_key(5, "mine"),
            n=4,
        )
    )
    ranked = [results[i] for i in rank_results(results)]
    assert [list(one.candidate.tokens) for one in ranked] == [a.token_ids for a in output.outputs]
    assert [one.reward for one in ranked] == [a.reward for a in output.outputs]


def test_answers_are_at_addresses_of_their_own():
    one, two, three = draw(n=3)
    assert draw(n=3)[1].candidate == two.candidate
    assert draw(n=1, key=Key(3).child("sample", 2))[0].candidate == three.candidate
    assert draw(n=1)[0].candidate == draw(n=1, key=Key(3))[0].candidate
    assert len({one.candidate.tokens, two.candidate.tokens, three.candidate.tokens}) > 1


def test_the_listener_hears_of_each_answer():
    listener = Recorder()
    results = draw(n=3, listener=listener)
    assert sorted(listener.watched) == [0, 1, 2]
    assert listener.committed == {i: one.candidate.tokens for i, one in enumerate(results)}
    assert [listener.answers[i] for i in range(3)] == results


def test_a_policy_with_one_answer_is_asked_once():
    listener = Recorder()
    results = draw(Plain(max_tokens=4), policy=Greedy(6), n=3, listener=listener)
    assert listener.watched == [0]
    assert [listener.answers[i] for i in range(3)] == results
    assert len({one.candidate.tokens for one in results}) == 1
    assert [one.usage.policy_requests for one in results] == [1, 0, 0]
    assert any("returned 3 times" in text for text in results[0].warnings)
    assert not draw(Plain(max_tokens=4), policy=Greedy(6))[0].warnings


def test_what_a_listener_raises_is_an_error_of_the_prompt():
    class Broken(AnswerListener):
        def on_answer(self, sample, result):
            raise LookupError("no such answer")

    with pytest.raises(StrategyError, match="answering raised LookupError: no such answer"):
        draw(n=2, listener=Broken())


def test_strategies_say_what_they_are():
    assert answers_in_one_draw(Plain())
    assert not answers_in_one_draw(BEST)
    assert missing_setting(CARDS).startswith("cards has no threshold")
    assert missing_setting(BestOf(inner=CARDS)) == missing_setting(CARDS)
    assert not missing_setting(Calibrate(inner=CARDS))
    assert not missing_setting(BestOf(inner=Calibrate(inner=CARDS)))
    assert not missing_setting(BEST)

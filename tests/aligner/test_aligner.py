"""The public face over the toy: shapes, order, seeds, and what is refused before any work."""

import asyncio
import re
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from rsalign import (
    AlignedOutput,
    Aligner,
    BestOf,
    Budget,
    ConfigError,
    Message,
    Plain,
    RewardError,
    Sampling,
)
from rsalign.testing import ToyPolicy, ToyReward

BEST = BestOf(n=4, inner=Plain(max_tokens=6))


@pytest.fixture
def toy():
    with Aligner(ToyPolicy(4), ToyReward(), BEST) as aligner:
        yield aligner


def test_one_result_per_prompt_in_order(toy):
    prompts = ["1", {"prompt_token_ids": [2, 3]}, {"prompt": "3 1"}, "1 1"]
    results = toy.generate(prompts)
    assert [r.prompt_token_ids for r in results] == [[1], [2, 3], [3, 1], [1, 1]]
    assert [r.request_id for r in results] == ["0", "1", "2", "3"]
    for result in results:
        assert isinstance(result, AlignedOutput)
        assert result.finished
        (answer,) = result.outputs
        assert answer.index == 0
        assert answer.finish_reason in ("stop", "length")
        assert answer.cumulative_logprob < 0
        assert answer.reward == result.alignment.reward
        assert len(result.alignment.trace.proposals) == 4
        best = max(p.candidate.reward for p in result.alignment.trace.proposals)
        assert answer.reward == best


def test_a_single_prompt_gives_a_list_of_one(toy):
    assert len(toy.generate("1 2")) == len(toy.generate({"prompt": "1 2"})) == 1


def test_the_same_call_gives_the_same_answers(toy):
    prompts = ["1", "2", "1"]
    once, again = toy.generate(prompts), toy.generate(prompts)
    assert [r.outputs for r in once] == [r.outputs for r in again]
    other = toy.generate(prompts * 5, seed=1)
    assert [r.outputs for r in toy.generate(prompts * 5)] != [r.outputs for r in other]
    assert asyncio.run(toy.agenerate(prompts))[1].outputs == once[1].outputs


def test_chat(toy):
    conversation = [{"role": "user", "content": "1 2"}, {"role": "assistant", "content": "3"}]
    (one,) = toy.chat(conversation)
    assert one.prompt_token_ids == [1, 2, 3]
    assert one.prompt == "user: 1 2\n\nassistant: 3"
    assert len(toy.chat([conversation, [Message("user", "1")]])) == 2
    parts = [{"role": "user", "content": [{"type": "text", "text": "1 2"}]}]
    assert toy.chat(parts)[0].prompt_token_ids == [1, 2]


def test_results_are_handed_over_as_they_come(toy):
    seen = []
    results = toy.generate(["1", "2", "3"], on_result=seen.append)
    assert sorted(r.request_id for r in seen) == ["0", "1", "2"]
    assert {id(r) for r in seen} == {id(r) for r in results}


def test_functions_are_rewards():
    with Aligner(ToyPolicy(4), lambda prompt, response: len(response), BEST) as aligner:
        (result,) = aligner.generate("1")
        assert result.outputs[0].reward == len(result.outputs[0].text)


def test_async_functions_are_rewards():
    async def judge(prompt, response):
        await asyncio.sleep(0)
        return -len(response)

    with Aligner(ToyPolicy(4), judge, BEST) as aligner:
        assert aligner.generate("1")[0].outputs[0].reward <= 0


def test_a_failing_function_names_itself():
    def broken(prompt, response):
        raise ZeroDivisionError

    with (
        Aligner(ToyPolicy(4), broken, BEST) as aligner,
        pytest.raises(RewardError, match=r"broken.*ZeroDivisionError"),
    ):
        aligner.generate("1")


def params(**given):
    """What vLLM's SamplingParams looks like, so that this file needs no engine."""

    @dataclass
    class Params:
        n: int = 1
        seed: int | None = None
        max_tokens: int | None = 16
        temperature: float = 1.0
        top_p: float = 1.0
        top_k: int = 0
        min_p: float = 0.0
        repetition_penalty: float = 1.0
        logit_bias: dict | None = None
        allowed_token_ids: list | None = None
        stop: str | list | None = None
        stop_token_ids: list | None = None
        presence_penalty: float = 0.0
        min_tokens: int = 0

    return Params(**given)


class Tunable(ToyPolicy):
    def with_sampling(self, sampling):
        return self


def test_sampling_params():
    with Aligner(Tunable(4), ToyReward(), BEST) as aligner:
        results = aligner.generate(["1", "1"], [params(max_tokens=1), params(max_tokens=3, n=3)])
        assert [len(r.outputs) for r in results] == [1, 3]
        assert len(results[0].outputs[0].token_ids) == 1
        rewards = [answer.reward for answer in results[1].outputs]
        assert rewards == sorted(rewards, reverse=True)
        assert results[1].alignment.usage.reward_calls == 12


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: a.generate([]), "list of prompts is empty"),
        (lambda a: a.generate(""), "prompt 0: the prompt is empty"),
        (lambda a: a.generate(["1", ""]), "prompt 1: the prompt is empty"),
        (lambda a: a.generate({"prompt_token_ids": []}), "prompt_token_ids is empty"),
        (lambda a: a.generate({"text": "1"}), "keys \\['text'\\]"),
        (lambda a: a.generate([7]), "is a int"),
        (lambda a: a.generate("9"), "cannot encode '9'"),
        (lambda a: a.chat([]), "list of messages is empty"),
        (lambda a: a.chat([{"role": "user"}]), "'role' and 'content'"),
        (lambda a: a.generate("1", strategy=BestOf), "give an instance"),
        (lambda a: a.generate("1", budget=5), "budget=5"),
        (lambda a: a.generate("1", seed="x"), "whole number"),
        (lambda a: a.generate("1", params(presence_penalty=1.0)), "its settings are fixed"),
        (lambda a: a.generate("1", priority=3), "priority=3 cannot be honoured: ToyPolicy"),
        (lambda a: a.generate({"prompt": "1", "prompts": 1}), "prompts=1 cannot be honoured"),
        (lambda a: a.generate({"prompt": "1", "cache_salt": 5}), "cache_salt=5: give a text"),
        (lambda a: a.generate(["1", "2"], [params()]), "1 sampling_params for 2 prompts"),
        (lambda a: a.generate("1", Sampling(top_p=0.5)), "its settings are fixed"),
    ],
)
def test_bad_input_is_refused_before_any_work(toy, call, message):
    with pytest.raises(ConfigError, match=message):
        call(toy)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Aligner(3), "policy is a int"),
        (lambda: Aligner(ToyPolicy(), 3), "reward is a int"),
        (lambda: Aligner(ToyPolicy(), None, BestOf(n=2)), "BestOf needs a reward"),
        (lambda: Aligner(ToyPolicy(), strategy=BestOf), "give an instance"),
        (lambda: Aligner(ToyPolicy(), strategy="best_off"), "did you mean 'best_of'"),
        (lambda: Aligner(ToyPolicy(), engine_args={"dtype": "auto"}), "exists already"),
        (lambda: BestOf(n=0), "of at least 1"),
        (lambda: Plain(max_tokens=0), "at least 1"),
        (lambda: Aligner(SimpleNamespace()), "policy is a SimpleNamespace"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_works_inside_a_running_loop(toy):
    """As in a notebook."""

    async def main():
        return toy.generate("1")

    assert asyncio.run(main())[0].finished


def test_budgets(toy):
    (result,) = toy.generate("1", budget=Budget(reward_calls=2))
    assert result.alignment.expired
    assert result.alignment.usage.reward_calls == 2


def test_plain_without_a_reward():
    with Aligner(ToyPolicy(4)) as aligner:
        (result,) = aligner.generate("1")
        assert result.outputs[0].reward is None
        assert result.alignment.usage.reward_calls == 0


class Carrying(ToyPolicy):
    """Tells what is to go with its requests to an engine."""

    def with_options(self, options):
        raise ConfigError(f"carried: {options.given()}")


@pytest.mark.parametrize("method", ["generate", "chat", "agenerate", "achat", "astream"])
def test_priorities_and_adapters_at_every_method(method):
    given = {"lora_request": "adapter", "priority": 3}
    said = "carried: {'priority': 3, 'lora_request': 'adapter'}"
    asked = [{"role": "user", "content": "1"}] if "chat" in method else "1"
    with Aligner(Carrying(), None, Plain(max_tokens=2)) as aligner:

        def ask():
            if method in ("generate", "chat"):
                return getattr(aligner, method)(asked, **given)
            return asyncio.run(awaited())

        async def awaited():
            if method == "astream":
                return await anext(aligner.astream(asked, **given))
            return await getattr(aligner, method)(asked, **given)

        with pytest.raises(ConfigError, match=re.escape(said)):
            ask()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("on_reward_error", "maybe"),
        ("on_reward_error", True),
        ("on_reward_error", None),
        ("engine_args", "dtype=float32"),
        ("engine_args", [1]),
        ("reward_args", 3),
        ("budget", 10**400),
        pytest.param("seed", 10**5000, id="seed-of-5001-digits"),
    ],
)
def test_settings_are_judged_before_anything_is_started(name, value):
    started = []

    class Reward(ToyReward):
        def __init__(self):
            started.append(self)

    with pytest.raises(ConfigError, match=name) as raised:
        Aligner(ToyPolicy(), Reward, Plain(), **{name: value})
    assert not started
    assert len(str(raised.value)) < 240


def test_an_empty_word_of_a_call_is_no_default():
    with (
        Aligner(ToyPolicy(), ToyReward(), Plain()) as aligner,
        pytest.raises(ConfigError, match="on_reward_error=''"),
    ):
        aligner.generate({"prompt_token_ids": [1]}, on_reward_error="")

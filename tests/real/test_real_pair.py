"""SmolLM2-135M-Instruct with the rewards trained on top of it, as `make real` left them."""

import math
from collections.abc import Iterator
from statistics import fmean

import pytest

from eval.real.cache import MODELS, find_model, folder
from eval.record import list_candidates
from eval.tasks.sentiment import Sentiment
from rsalign import (
    AlignedOutput,
    Aligner,
    BestOf,
    Cards,
    FixedSize,
    Line,
    Plain,
    Prompt,
    QAlign,
    Sampling,
)
from rsalign.core.protocols import Reward, Strategy
from rsalign.core.tasks import concurrently
from rsalign.engines.loop_thread import LoopThread
from rsalign.policies.vllm import VllmPolicy
from rsalign.rewards.classifier import TransformersReward
from rsalign.rewards.vllm import VllmReward

MADE = all((folder() / name / "config.json").is_file() for name in MODELS)
pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not MADE, reason=f"no models in {folder()}: `make real` makes them"),
]

ENGINE = {"kv_cache_memory_bytes": 256 << 20, "max_model_len": 2048}
LENGTH = 24
ITEMS = Sentiment(limit=12, form="chat").load()
REWARDS = ("sentiment", "hh")
STRATEGIES = [
    Plain(max_tokens=LENGTH),
    BestOf(n=4, inner=Plain(max_tokens=LENGTH)),
    Cards(segmenter=FixedSize(8), threshold=Line(target=0.5), max_tokens=LENGTH, max_tries=4),
    QAlign(steps=4, max_tokens=LENGTH),
]


@pytest.fixture(scope="module")
def smollm2() -> Iterator[VllmPolicy]:
    policy = VllmPolicy.start(find_model("policy"), **ENGINE)
    yield policy
    policy.close()


@pytest.fixture(scope="module")
def rewards() -> Iterator[dict[str, VllmReward]]:
    started = {name: VllmReward.start(find_model(name), **ENGINE) for name in REWARDS}
    yield started
    for reward in started.values():
        reward.close()


def answer(policy: VllmPolicy, reward: Reward, strategy: Strategy, num: int) -> list[AlignedOutput]:
    prompts = [list(item.messages) for item in ITEMS[:num]]
    return Aligner(policy, reward, strategy, seed=1).chat(prompts, use_tqdm=False)


@pytest.mark.parametrize("name", REWARDS)
def test_every_method_answers_with_rewards_that_transformers_computes_too(smollm2, rewards, name):
    drawn = [
        (Prompt(item.messages, tuple(output.prompt_token_ids)), proposal.candidate)
        for strategy in STRATEGIES
        for item, output in zip(ITEMS, answer(smollm2, rewards[name], strategy, 2), strict=False)
        for proposal in list_candidates(output)
    ]
    assert len({candidate.response.text for _, candidate in drawn}) > 10
    assert {candidate.response.finished for _, candidate in drawn} == {True, False}
    reference, loop = TransformersReward(find_model(name)), LoopThread("reference")
    try:
        scores = (reference.score(prompt, candidate.response) for prompt, candidate in drawn)
        expected = loop.call(concurrently(scores))
        assert [one.reward for _, one in drawn] == pytest.approx(expected, abs=1e-4)
    finally:
        loop.stop()
        reference.close()


def test_the_best_of_eight_reviews_is_more_positive_than_the_first(smollm2, rewards):
    reward, inner = rewards["sentiment"], Plain(max_tokens=LENGTH)
    plain, best = (
        [output.outputs[0].reward for output in answer(smollm2, reward, strategy, len(ITEMS))]
        for strategy in (inner, BestOf(n=8, inner=inner))
    )
    gains = [after - before for before, after in zip(plain, best, strict=True)]
    # a gain of several standard errors: eight draws, of which the best is some 1.4 deviations up
    assert fmean(gains) > 2 * math.sqrt(fmean((g - fmean(gains)) ** 2 for g in gains) / len(gains))


def test_the_capital_of_france(smollm2):
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    greedy = smollm2.with_sampling(Sampling(temperature=0.0))
    [output] = Aligner(greedy, None, Plain(max_tokens=LENGTH)).chat(asked, use_tqdm=False)
    assert output.outputs[0].text == "The capital of France is Paris."
    assert output.outputs[0].finish_reason == "stop"

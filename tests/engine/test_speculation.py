"""The laws of strategies hold over an engine that speculates, and what needs hooks is refused.

vLLM proposes several tokens at once, by n-grams of the text or by a small model, and accepts them
by rejection sampling. A wrong rule would change the law of the second and later tokens.
"""

import asyncio
from functools import partial

import pytest
from exact import answers, check_draws, next_probs, shaped

from rsalign import (
    Aligner,
    BestOf,
    Cards,
    ConfigError,
    Constant,
    EarlyStop,
    Entropy,
    FixedSize,
    Key,
    LastNumber,
    Plain,
    QAlign,
    Sampling,
    SelfCertainty,
)
from rsalign.core.tasks import concurrently
from rsalign.embedded import POLICY
from rsalign.policies.vllm import VllmPolicy

pytestmark = [pytest.mark.engine, pytest.mark.nightly]

NUM_DRAWS = 800
WAYS = {
    "ngram": {
        "method": "ngram",
        "num_speculative_tokens": 3,
        "prompt_lookup_max": 3,
        "prompt_lookup_min": 1,
    },
    "draft_model": {"method": "draft_model", "model": POLICY, "num_speculative_tokens": 3},
}
LAWS = {
    "plain": (Sampling(), lambda probs: probs),
    "tempered": (
        Sampling(temperature=1.4, top_k=6),
        partial(shaped, temperature=1.4, top_k=6),
    ),
}


@pytest.fixture(scope="module", params=WAYS)
def speculating(request):
    policy = VllmPolicy.start(
        POLICY, speculative_config=dict(WAYS[request.param]), kv_cache_memory_bytes=64 << 20
    )
    assert policy.engine.vllm_config.speculative_config.method == request.param
    yield policy
    policy.close()


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("seeded", [True, False], ids=["seeded", "unseeded"])
def test_draws_have_the_models_law(speculating, ask, name, seeded):
    law, shape = LAWS[name]
    prompt = ask(0)
    expected = answers(prompt.tokens, 4, shape=shape)
    policy = speculating.with_sampling(law)

    async def draw(i):
        if seeded:
            segment = await policy.extend(prompt.tokens, max_new_tokens=4, key=Key(1, (i,)))
            return segment.tokens
        from vllm import SamplingParams

        params = SamplingParams(
            temperature=law.temperature, top_k=law.top_k, max_tokens=4, detokenize=False
        )
        output = await policy.engine.generate(prompt.tokens, params)
        return tuple(output.outputs[0].token_ids)

    async def main():
        return await concurrently(draw(i) for i in range(NUM_DRAWS))

    drawn = asyncio.run(main())
    assert check_draws(drawn, expected)
    raw = answers(prompt.tokens, 4)
    assert name == "plain" or not check_draws(drawn, raw), "temperature and truncation were lost"


@pytest.mark.parametrize("name", LAWS)
def test_log_probs_are_those_of_the_law(speculating, ask, name):
    law, shape = LAWS[name]
    policy, prompt = speculating.with_sampling(law), ask(1)

    async def main():
        return await concurrently(
            policy.extend(prompt.tokens, max_new_tokens=16, key=Key(2, (i,))) for i in range(8)
        )

    for segment in asyncio.run(main()):
        assert len(segment.log_probs) == len(segment.tokens)
        for at, (token, log_prob) in enumerate(zip(segment.tokens, segment.log_probs, strict=True)):
            (probs,) = shape(next_probs([[*prompt.tokens, *segment.tokens[:at]]]))
            assert log_prob == pytest.approx(probs[token].log().item(), abs=1e-3)


def test_given_tokens_are_scored(speculating, policy, ask):
    prompt = ask(0)
    tokens = asyncio.run(policy.extend(prompt.tokens, max_new_tokens=12, key=Key(4))).tokens
    expected = asyncio.run(policy.log_probs(prompt.tokens, tokens))
    assert asyncio.run(speculating.log_probs(prompt.tokens, tokens)) == pytest.approx(
        expected, abs=1e-4
    )


def test_greedy_draws_are_those_of_an_engine_that_does_not_speculate(speculating, policy, ask):
    greedy = Sampling(temperature=0)
    for index in range(4):
        tokens = ask(index).tokens
        one, other = (
            asyncio.run(each.with_sampling(greedy).extend(tokens, max_new_tokens=40, key=Key(0)))
            for each in (speculating, policy)
        )
        assert one.tokens == other.tokens


@pytest.mark.parametrize(
    "strategy",
    [
        Plain(max_tokens=24),
        BestOf(n=3, inner=Plain(max_tokens=24)),
        Cards(segmenter=FixedSize(6), max_tokens=24, threshold=Constant(value=0.0)),
        QAlign(steps=4, beta=1.0, max_tokens=24),
    ],
    ids=lambda strategy: type(strategy).__name__,
)
def test_strategies_that_need_no_hook_answer(speculating, reward, ask, strategy):
    with Aligner(speculating, reward, strategy=strategy) as aligner:
        (output,) = aligner.chat([list(ask(0).messages)])
    assert output.outputs[0].text


@pytest.mark.parametrize(
    "strategy",
    [
        Cards(segmenter=Entropy(1.0), max_tokens=24, threshold=Constant(value=0.0)),
        EarlyStop(select=SelfCertainty(extract=LastNumber()), n=2, inner=Plain(max_tokens=24)),
    ],
    ids=lambda strategy: type(strategy).__name__,
)
def test_what_needs_a_hook_is_refused_by_name(speculating, reward, ask, strategy):
    with (
        Aligner(speculating, reward, strategy=strategy) as aligner,
        pytest.raises(ConfigError, match=r"speculates .*start it without speculative_config"),
    ):
        aligner.chat([list(ask(0).messages)])

"""Settings that depend on where the prompt ended, on the real engine against exact laws.

Draws are seeded, so that a test passes always or never.
"""

import asyncio
import json
import math
from collections import Counter

import pytest
import torch
from exact import LEAST, REST, check_draws, language_model, power, tokenizer
from safetensors.torch import save_file

from rsalign import Aligner, BestOf, Cards, FixedSize, Key, Plain, Prompt, Run, Sampling, Stop
from rsalign.core.errors import ConfigError
from rsalign.core.tasks import concurrently
from rsalign.embedded import POLICY
from rsalign.engines.options import RequestOptions
from rsalign.policies.vllm import VllmPolicy
from rsalign.segments.acceptance import HardAcceptance
from rsalign.segments.thresholds import Constant
from rsalign.strategies.qalign import QAlign

pytestmark = pytest.mark.engine

NUM_DRAWS = 3000
ANSWER = "So 12 + 7 = 19\nThen 19 - 3 = 16\nAnswer: 16"


class Zero:
    async def score(self, prompt, response):
        return 0.0


def candidates(strategy, prompt, policy, num_draws=NUM_DRAWS):
    async def main():
        return await concurrently(
            strategy.sample(prompt, Run(policy, Zero(), Key(1, (i,)))) for i in range(num_draws)
        )

    return asyncio.run(main())


@torch.inference_mode()
def next_law(prompt, output, law):
    """What vLLM documents of these settings, written down anew, ``(vocab,)``."""
    logits = language_model()(torch.tensor([prompt + output])).logits[0, -1].double()
    if law.allowed_token_ids:
        masked = torch.full_like(logits, -math.inf)
        allowed = list(law.allowed_token_ids)
        masked[allowed] = logits[allowed]
        logits = masked
    for token, bias in law.logit_bias:
        logits[token] += bias
    for word in law.bad_words:
        ids = tokenizer().encode(word, add_special_tokens=False)
        if tuple(ids[:-1]) == output[len(output) - len(ids) + 1 :]:
            logits[ids[-1]] = -math.inf
    if len(output) < law.min_tokens:
        logits[tokenizer().eos_token_id] = -math.inf
    for token, count in Counter(output).items():
        logits[token] -= law.presence_penalty + law.frequency_penalty * count
    return (logits / law.temperature).softmax(-1)


def answers(prompt, max_tokens, law):
    """Probability of every answer above `LEAST`, and of all others together."""
    eos, open_, done = tokenizer().eos_token_id, {(): 1.0}, {}
    for length in range(1, max_tokens + 1):
        longer = {}
        for output, mass in open_.items():
            row = next_law(prompt, output, law) * mass
            for token in (row > LEAST).nonzero()[:, 0].tolist():
                ended = token == eos or length == max_tokens
                (done if ended else longer)[(*output, token)] = row[token].item()
        open_ = longer
    return done | {REST: max(0.0, 1 - sum(done.values()))}


WORDS = ("So", "First", "Then", " 12")
"""Few tokens at a high temperature: answers repeat them, and some end early."""


def few(**setting):
    ids = [tokenizer().encode(word, add_special_tokens=False)[0] for word in WORDS]
    eos = tokenizer().eos_token_id
    return Sampling(
        temperature=2.0, allowed_token_ids=(*ids, eos), logit_bias=((eos, -11.0),), **setting
    )


LAWS = {
    "presence": {"presence_penalty": 1.5},
    "frequency": {"frequency_penalty": -1.0},
    "both": {"presence_penalty": -1.0, "frequency_penalty": 2.0},
    "words": {"bad_words": ("So",)},
    "two tokens": {"bad_words": ("SoFirst", "Then 12")},
    "length": {"min_tokens": 3},
}


@pytest.fixture
def after_an_answer(ask):
    """A prompt that ends where the policy nearly always ends its answer."""
    prompt = ask(0)
    tokens = tuple(tokenizer().encode(ANSWER, add_special_tokens=False))
    return Prompt(prompt.messages, prompt.tokens + tokens)


@pytest.mark.parametrize("name", LAWS)
def test_draws_and_log_probs_are_those_of_the_law(policy, after_an_answer, name):
    prompt, law = after_an_answer, few(**LAWS[name])
    right, plain = answers(prompt.tokens, 4, law), answers(prompt.tokens, 4, few())
    # as many as tell that the setting has an effect but for once in a million, at most `NUM_DRAWS`
    sizes = range(500, NUM_DRAWS, 250)
    tells = (n for n in sizes if power(right, plain, n) > 1 - 1e-6)
    num_draws = next(tells, NUM_DRAWS)
    drawn = candidates(Plain(max_tokens=4), prompt, policy.with_sampling(law), num_draws)
    assert check_draws([each.tokens for each in drawn], right)
    strays = any(plain.get(each.tokens, 1) == 0 for each in drawn)
    assert strays or not check_draws([each.tokens for each in drawn], plain), "it has no effect"
    for each in drawn[:50]:
        for i, told in enumerate(each.response.log_probs):
            row = next_law(prompt.tokens, each.tokens[:i], law)
            assert told == pytest.approx(row[each.tokens[i]].log().item(), abs=2e-3)


def test_words_of_two_tokens_are_among_these():
    encoded = [tokenizer().encode(w, add_special_tokens=False) for w in ("SoFirst", "Then 12")]
    assert [len(ids) for ids in encoded] == [2, 2]
    assert {token for ids in encoded for token in ids} <= set(few().allowed_token_ids)


def test_a_minimal_length_in_segments(policy, after_an_answer):
    """Segments of one token: the engine is told what is left of it each time."""
    law = few(min_tokens=3)
    always = Cards(
        segmenter=FixedSize(1),
        threshold=Constant(value=-1.0),
        acceptance=HardAcceptance(),
        max_tokens=4,
        max_tries=1,
    )
    drawn = candidates(always, after_an_answer, policy.with_sampling(law), 1500)
    assert check_draws([each.tokens for each in drawn], answers(after_an_answer.tokens, 4, law))


def test_a_minimal_length_and_boundaries_that_the_engine_finds(policy, ask):
    from rsalign import Entropy

    strategy = Cards(
        segmenter=Entropy(0.5),
        threshold=Constant(value=-1.0),
        acceptance=HardAcceptance(),
        max_tokens=8,
    )
    with pytest.raises(ConfigError, match=r"leave out .*min_tokens"):
        candidates(strategy, ask(0), policy.with_sampling(Sampling(min_tokens=3)), 1)


def test_the_end_of_sequence_as_a_token_like_others(policy, after_an_answer):
    for strategy in (Plain(max_tokens=6), QAlign(steps=3, max_tokens=6)):
        law = policy.with_sampling(Sampling(ignore_eos=True))
        drawn = candidates(strategy, after_an_answer, law, 20)
        assert {(len(each.tokens), each.response.stop) for each in drawn} == {(6, Stop.LENGTH)}
        assert any(tokenizer().eos_token_id in each.tokens[:-1] for each in drawn)


GRAMMARS = {
    "choice": {"choice": ["yes", "no", "perhaps"]},
    "regex": {"regex": "[0-9]{2}"},
}


@pytest.mark.parametrize("name", GRAMMARS)
def test_log_probs_under_a_grammar(policy, ask, name):
    """They are those of the law that is drawn from: what is told is how often it is seen."""
    law = policy.with_sampling(Sampling(structured_outputs=json.dumps(GRAMMARS[name])))
    drawn = candidates(Plain(max_tokens=12), ask(0), law)
    told = {each.tokens: math.exp(sum(each.response.log_probs)) for each in drawn}
    seen = Counter(each.tokens for each in drawn)
    assert 0.9 < sum(told.values()) < 1.0001
    often = {tokens: p for tokens, p in told.items() if p * NUM_DRAWS > 5}
    rest = 1 - sum(often.values())
    assert check_draws(list(seen.elements()), often | ({REST: rest} if rest > LEAST else {}))


SCHEMA = {
    "type": "object",
    "properties": {"total": {"type": "integer"}, "right": {"type": "boolean"}},
    "required": ["total", "right"],
    "additionalProperties": False,
}


def params(**given):
    from vllm import SamplingParams

    return SamplingParams(**{"max_tokens": 48, "seed": 3} | given)


@pytest.fixture(scope="module")
def newlines():
    """Tokens with a newline, which the tiny model would put between two braces for ever."""
    return {i: -100.0 for i in range(len(tokenizer())) if "\n" in tokenizer().decode([i])}


def test_best_of_answers_by_a_schema(aligner, ask, newlines):
    from vllm.sampling_params import StructuredOutputsParams

    grammar = StructuredOutputsParams(json=SCHEMA)
    asked = params(structured_outputs=grammar, logit_bias=newlines, top_p=0.9)
    prompts = [{"prompt_token_ids": ask(i).tokens} for i in range(6)]
    outputs = aligner.generate(prompts, asked, strategy=BestOf(n=4), use_tqdm=False)
    finished = [each.outputs[0] for each in outputs if each.outputs[0].finish_reason == "stop"]
    assert len(finished) >= 4
    for answer in finished:
        read = json.loads(answer.text)
        assert list(read) == ["total", "right"]
        assert isinstance(read["right"], bool)
    assert all(len(each.alignment.trace.proposals) == 4 for each in outputs)


def test_what_is_listed_beside_the_drawn_tokens(aligner, ask):
    """The engine's own list for the very draw that was chosen, for methods that cut, too."""
    prompt = {"prompt_token_ids": ask(0).tokens}
    for strategy in (BestOf(n=3), QAlign(steps=4)):
        (output,) = aligner.generate(
            prompt, params(logprobs=3, max_tokens=8), strategy=strategy, use_tqdm=False
        )
        (answer,) = output.outputs
        assert len(answer.logprobs) == len(answer.token_ids)
        for i, (token, listed) in enumerate(zip(answer.token_ids, answer.logprobs, strict=True)):
            assert listed[token].logprob == answer.log_probs[i]
            assert 3 <= len(listed) <= 4
            row = next_law(tuple(ask(0).tokens), tuple(answer.token_ids[:i]), Sampling())
            best = row.topk(3).indices.tolist()
            assert {t for t, each in listed.items() if each.rank <= 3} == set(best)
            for other, each in listed.items():
                assert each.logprob == pytest.approx(row[other].log().item(), abs=2e-3)
                assert each.decoded_token == tokenizer().decode([other])
    (output,) = aligner.generate(
        prompt, params(logprob_token_ids=[9, 11], max_tokens=2), strategy=Plain(), use_tqdm=False
    )
    (answer,) = output.outputs
    assert [set(listed) for listed in answer.logprobs] == [{9, 11, t} for t in answer.token_ids]


def test_how_an_answer_is_shown(aligner, ask):
    def text(**how):
        (output,) = aligner.generate(
            {"prompt_token_ids": ask(0).tokens}, params(**how), strategy=Plain(), use_tqdm=False
        )
        return output.outputs[0].text

    end = tokenizer().eos_token
    usual = text()
    assert text(skip_special_tokens=False, include_stop_str_in_output=True) == usual + end
    assert text(detokenize=False) == ""
    stopped = text(stop=["="])
    assert usual.startswith(stopped + "=")
    assert text(stop=["="], include_stop_str_in_output=True) == stopped + "="
    with pytest.raises(ConfigError, match="astream shows text as usual"):
        asyncio.run(anext(aligner.astream("Ann", params(skip_special_tokens=False))))


def test_a_salt_keeps_prefixes_apart(aligner, ask):
    tokens = ask(0).tokens * 4

    def cached(salt):
        prompt = {"prompt_token_ids": tokens} | ({"cache_salt": salt} if salt else {})
        (output,) = aligner.generate(prompt, params(max_tokens=1), strategy=Plain(), use_tqdm=False)
        return output.alignment.usage.cached_tokens

    assert cached("one of this test") == 0
    assert cached("one of this test") >= 64
    assert cached("another of this test") == 0
    cached("")
    assert cached("") >= 64


def test_an_adapter_is_another_law(tmp_path, ask):
    model = language_model()
    heads = model.config.num_attention_heads * model.config.head_dim
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for layer in range(model.config.num_hidden_layers):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        shapes = {"lora_A": (8, model.config.hidden_size), "lora_B": (heads, 8)}
        for kind, shape in shapes.items():
            tensors[f"{name}.{kind}.weight"] = torch.randn(shape, generator=generator)
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    written = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(written))
    small = {"kv_cache_memory_bytes": 64 << 20, "enable_lora": True, "max_lora_rank": 8}
    policy = VllmPolicy.start(POLICY, **small)
    try:
        from vllm.lora.request import LoRARequest

        adapter = LoRARequest("noise", 1, str(tmp_path))
        prompts = [{"prompt_token_ids": ask(i).tokens} for i in range(2)]
        with Aligner(policy, strategy=BestOf(n=2), reward=lambda p, r: 0.0) as aligner:

            def drawn(given):
                outputs = aligner.generate(
                    prompts, params(max_tokens=8), lora_request=given, use_tqdm=False
                )
                return [output.outputs[0].token_ids for output in outputs]

            base, adapted = drawn(None), drawn(adapter)
            assert base[0] != adapted[0]
            assert base[1] != adapted[1]
            # vLLM on CPU gives all rows of one step the same adapter: one call for each
            assert drawn([adapter, adapter]) == adapted
            assert drawn([None, None]) == base
        other = policy.with_options(RequestOptions(lora_request=adapter))
        assert other.fingerprint != policy.fingerprint
        assert other.with_options(RequestOptions(priority=1)).options.lora_request is adapter
    finally:
        policy.close()


def test_an_adapter_for_an_engine_that_has_none(aligner):
    from vllm.lora.request import LoRARequest

    with pytest.raises(ConfigError, match="LoRA is not enabled"):
        aligner.generate("Ann", params(), lora_request=LoRARequest("a", 1, "x"), use_tqdm=False)


def test_options_that_an_engine_in_this_process_cannot_take(policy, ask):
    ranked = policy.with_options(RequestOptions(data_parallel_rank=1))
    with pytest.raises(ConfigError, match="data_parallel_rank=1 cannot be honoured"):
        candidates(Plain(max_tokens=2), ask(0), ranked, 1)

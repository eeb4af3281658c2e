"""A model with a SentencePiece tokenizer on the real engine: one text at every door, vLLM's."""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rsalign import Aligner, BestOf, FixedSize, Plain, aligned
from rsalign.aligner.stream import TextEvent
from rsalign.segments.acceptance import HardAcceptance
from rsalign.segments.thresholds import Constant
from rsalign.strategies.cards import Cards

sys.path.append(str(Path(__file__).parent.parent / "core"))

from made_tokenizers import llama

pytestmark = pytest.mark.engine

PROMPTS = ["Ann has 3 apples.", "Tom 🦊:", {"prompt_token_ids": [0]}]


@pytest.fixture(scope="module")
def llm(policy, tmp_path_factory):
    """Random weights, so that any token may come; `policy` is there to outlive it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder, tokenizer = tmp_path_factory.mktemp("model"), llama()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        from vllm import LLM

        return LLM(
            str(folder),
            dtype="float32",
            enforce_eager=True,
            kv_cache_memory_bytes=64 << 20,
            enable_chunked_prefill=False,
            max_num_batched_tokens=8192,
            logprobs_mode="processed_logprobs",
        )


def params(**given):
    from vllm import SamplingParams

    return SamplingParams(**{"max_tokens": 24, "seed": 1} | given)


CARDS = Cards(
    segmenter=FixedSize(3),
    threshold=Constant(value=-1.0),
    acceptance=HardAcceptance(),
    max_tokens=24,
)


@pytest.mark.parametrize("strategy", [BestOf(n=3, inner=Plain(max_tokens=24)), CARDS], ids=repr)
@pytest.mark.parametrize("stop", [[], ["p", "the"], [" "]], ids=str)
def test_outputs_streams_and_rewards_read_the_same(llm, strategy, stop):
    heard = []

    def reward(prompt, response):
        heard.append(response)
        return float(len(response))

    async def streamed(prompt):
        pieces = []
        async for event in aligner.astream(prompt, params(stop=stop)):
            if isinstance(event, TextEvent):
                pieces.append(event.text)
        return "".join(pieces)

    with aligned(llm, reward, strategy):
        expected = llm.generate(PROMPTS, params(stop=stop), use_tqdm=False)
    texts = [output.outputs[0].text for output in expected]
    with Aligner(llm, reward, strategy) as aligner:
        found = aligner.generate(PROMPTS, params(stop=stop), use_tqdm=False)
        pieces = asyncio.run(streamed(PROMPTS[0]))
    assert [output.outputs[0].text for output in found] == texts
    assert [list(o.outputs[0].token_ids) for o in found] == [
        list(o.outputs[0].token_ids) for o in expected
    ]
    assert set(texts) <= set(heard)
    assert pieces == texts[0]


def test_the_engines_own_text_is_ours(llm):
    """Greedy decoding by vLLM itself, first spaces, bytes and halves of characters included."""
    asked = [*PROMPTS, *(f"{number} pens and {number} 🧿" for number in range(30))]
    greedy = params(temperature=0, seed=None, max_tokens=9)
    own = [output.outputs[0] for output in llm.generate(asked, greedy, use_tqdm=False)]
    with Aligner(llm) as aligner:
        found = aligner.generate(asked, greedy, use_tqdm=False)
    assert [output.outputs[0].text for output in found] == [answer.text for answer in own]
    tokenizer = llm.get_tokenizer()
    decoded = [tokenizer.decode(answer.token_ids, skip_special_tokens=True) for answer in own]
    assert sum(answer.text == f" {text}" for answer, text in zip(own, decoded, strict=True)) > 3


def test_a_cut_within_a_character_stops_nowhere(llm):
    """vLLM would take the whole prefix for new text, and find the prompt's stop strings in it.

    Segments of one token cut every character of several bytes; the law allows little else.
    """
    names = ("<0xC3>", "<0xA9>", "a")
    law = params(
        max_tokens=32,
        stop=["apples"],
        allowed_token_ids=llm.get_tokenizer().convert_tokens_to_ids(names),
        n=16,
    )
    one = replace(CARDS, segmenter=FixedSize(1))
    with Aligner(llm, lambda prompt, response: 0.0) as aligner:
        (output,) = aligner.generate(PROMPTS[0], law, strategy=one, use_tqdm=False)
    assert {answer.finish_reason for answer in output.outputs} == {"length"}
    assert {len(answer.token_ids) for answer in output.outputs} == {32}
    assert sum("é" in answer.text for answer in output.outputs) > 8

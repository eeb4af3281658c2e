"""Engines that cache prefixes otherwise than usual, or not: right laws, and a word about the cost.

The models are tiny, with random weights and the embedded policy's tokenizer.
"""

import asyncio
import json
import logging
from pathlib import Path

import pytest
import torch

from rsalign import Key, Sampling
from rsalign.embedded import POLICY
from rsalign.engines.vllm import costs
from rsalign.engines.vllm.building import configure, plan_engine
from rsalign.engines.vllm.openai_app import parse_flags
from rsalign.policies.vllm import VllmPolicy

pytestmark = [pytest.mark.engine, pytest.mark.nightly]

WINDOW = 8
PROMPT = "Iris has 27 eggs. Iris finds 12 eggs. Iris buys 3 eggs and gives away 7 eggs. " * 3
ATTENTION = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128}


def config_of(kind, common):
    import transformers

    heads = {**ATTENTION, "head_dim": 32}
    if kind == "sliding window":
        layers = ["sliding_attention", "full_attention"]
        return transformers.Gemma3TextConfig(
            **common, **heads, sliding_window=WINDOW, query_pre_attn_scalar=32, layer_types=layers
        )
    if kind == "state":
        return transformers.Mamba2Config(
            **common, num_heads=8, head_dim=16, state_size=16, n_groups=1, chunk_size=16
        )
    return transformers.LlamaConfig(**common, **heads)


def make_checkpoint(kind, folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(POLICY)
    common = {
        "vocab_size": json.loads((Path(POLICY) / "config.json").read_text())["vocab_size"],
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "initializer_range": 0.3,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config_of(kind, common), dtype=torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model.eval()


KINDS = {
    "sliding window": ({}, None),
    "no prefix cache": ({"enable_prefix_caching": False}, "has no prefix cache"),
    "state": ({}, "none by default for models with a state"),
}


@pytest.fixture(scope="module", params=KINDS)
def engine(request, tmp_path_factory):
    """The kind, the reference model, a policy over it, and what was logged at its start."""
    folder = tmp_path_factory.mktemp("model")
    reference = make_checkpoint(request.param, folder)
    arguments, _ = KINDS[request.param]
    logged = []
    handler = logging.Handler()
    handler.emit = lambda record: logged.append(record.getMessage())
    costs.logger.addHandler(handler)
    policy = VllmPolicy.start(
        str(folder), kv_cache_memory_bytes=64 << 20, max_model_len=512, **arguments
    )
    costs.logger.removeHandler(handler)
    yield request.param, reference, policy, logged
    policy.close()


async def in_segments(policy, prompt, key, *, total=48, size=6):
    """Tokens and log-probabilities of an answer, drawn segment by segment."""
    tokens, log_probs = (), ()
    while len(tokens) < total:
        at = key.child(len(tokens))
        segment = await policy.extend(prompt + tokens, max_new_tokens=size, key=at)
        tokens, log_probs = tokens + segment.tokens, log_probs + segment.log_probs
        if segment.stop.value == "eos":
            break
    return tokens, log_probs


def test_the_cost_is_told_at_the_start(engine):
    kind, _, _, logged = engine
    expected = KINDS[kind][1]
    if expected is None:
        assert not logged
    else:
        (line,) = logged
        assert expected in line


def test_greedy_segments_are_the_whole_answer(engine):
    _, _, policy, _ = engine
    greedy, prompt = policy.with_sampling(Sampling(temperature=0)), policy.encode(PROMPT)
    whole = asyncio.run(greedy.extend(prompt, max_new_tokens=48, key=Key(0))).tokens
    parts, _ = asyncio.run(in_segments(greedy, prompt, Key(0)))
    assert len(prompt) > WINDOW
    assert parts == whole


def test_segments_are_drawn_from_the_models_law(engine):
    _, reference, policy, _ = engine
    prompt = policy.encode(PROMPT)
    for seed in range(6):
        tokens, log_probs = asyncio.run(in_segments(policy, prompt, Key(seed)))
        with torch.inference_mode():
            laws = reference(torch.tensor([prompt + tokens])).logits[0].log_softmax(-1)
        for i, (token, log_prob) in enumerate(zip(tokens, log_probs, strict=True)):
            assert log_prob == pytest.approx(laws[len(prompt) - 1 + i, token].item(), abs=1e-3)


def test_a_shorter_draw_of_a_key_is_the_beginning_of_a_longer_one(engine):
    _, _, policy, _ = engine
    prompt = policy.encode(PROMPT)
    for seed in range(4):
        long, short = (
            asyncio.run(policy.extend(prompt, max_new_tokens=n, key=Key(seed))).tokens
            for n in (20, 7)
        )
        assert long[:7] == short


def test_doctor_and_servers_leave_out_the_cache_that_models_with_a_state_have_not(tmp_path):
    """Unless they are told to have it; other models have one."""
    from vllm.engine.arg_utils import AsyncEngineArgs

    make_checkpoint("state", tmp_path)
    config, _ = plan_engine(str(tmp_path))
    assert not config.cache_config.enable_prefix_caching
    for model, flags, expected in (
        (str(tmp_path), [], False),
        (POLICY, [], True),
        (POLICY, ["--no-enable-prefix-caching"], False),
    ):
        args = AsyncEngineArgs.from_cli_args(parse_flags(model, flags))
        asked = args.enable_prefix_caching
        assert asked is (False if flags else None)
        config, _ = configure(args, {} if asked is None else {"enable_prefix_caching": asked})
        assert config.cache_config.enable_prefix_caching is expected

"""The second runner serves the largest requests that `runner_limits` lets through.

Larger ones end the engine; they are refused, and the engine serves on. The model is a small random
one with a large vocabulary, so that there are tokens enough to name.
"""

import asyncio
import shutil

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from rsalign import ConfigError
from rsalign.embedded import POLICY
from rsalign.policies.vllm import VllmPolicy

pytestmark = pytest.mark.engine

VOCAB, MAX_MODEL_LEN = 2100, 256
AT_THE_LIMIT = {
    "seed": {"seed": (1 << 63) - 1},
    "least seed": {"seed": -(1 << 63)},
    "seeds of samples": {"seed": (1 << 63) - 2, "n": 2},
    "allowed_token_ids": {"allowed_token_ids": list(range(300, 1324))},
    "logit_bias": {"logit_bias": dict.fromkeys(range(1024), 1.0)},
    "stop tokens": {"min_tokens": 1, "stop_token_ids": list(range(100, 227))},
    "max_tokens": {"max_tokens": (1 << 31) - 1 - MAX_MODEL_LEN, "stop_token_ids": [*range(2000)]},
    "bad_words": {"bad_words": ["a b c d " * 30]},
}
BEYOND = {
    "seed": {"seed": 1 << 63},
    "seeds of samples": {"seed": (1 << 63) - 1, "n": 2},
    "allowed_token_ids": {"allowed_token_ids": list(range(300, 1325))},
    "logit_bias": {"logit_bias": dict.fromkeys(range(1025), 1.0)},
    "stop tokens": {"min_tokens": 1, "stop_token_ids": list(range(100, 228))},
    "max_tokens": {"max_tokens": (1 << 31) - MAX_MODEL_LEN},
    "bad_words": {"bad_words": ["a b c d " * 300]},
}


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wide") / "model"
    shutil.copytree(POLICY, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = LlamaConfig.from_pretrained(POLICY)
    config.vocab_size, config.num_hidden_layers = VOCAB, 1
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    policy = VllmPolicy.start(
        str(folder), kv_cache_memory_bytes=16 << 20, max_model_len=MAX_MODEL_LEN
    )
    yield policy
    policy.close()


def send(policy, asked):
    from vllm import SamplingParams

    params = SamplingParams(**{"max_tokens": 3} | asked)
    return asyncio.run(policy.engine.generate((5, 6, 7), params))


@pytest.mark.parametrize("name", AT_THE_LIMIT)
def test_the_largest_requests_are_served(wide, name):
    assert send(wide, AT_THE_LIMIT[name]).finished


@pytest.mark.parametrize("name", BEYOND)
def test_larger_ones_are_refused_and_the_engine_lives(wide, name):
    with pytest.raises(ConfigError, match=r"second model runner|seeds of this engine"):
        send(wide, BEYOND[name])
    assert send(wide, {}).finished


def test_a_grammar_is_applied(wide):
    from vllm.sampling_params import StructuredOutputsParams

    output = send(wide, {"structured_outputs": StructuredOutputsParams(regex="[0-9]{3}")})
    assert all(character.isdigit() for character in output.outputs[0].text)

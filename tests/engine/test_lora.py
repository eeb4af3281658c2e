"""A LoRA adapter as policy: the law of the merged model, beside the model's own."""

import asyncio
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM
from used_up import save_adapter, save_model

from rsalign import Aligner, BestOf, ConfigError, Key, Plain
from rsalign.core.tasks import concurrently
from rsalign.engines.vllm.adapter import Adapter
from rsalign.policies.vllm import VllmPolicy
from rsalign.segments import Entropy

pytestmark = pytest.mark.engine

PROMPT, TOKENS = (1, 4, 6), (4, 5, 8, 2, 3, 0)
SMALL = {"kv_cache_memory_bytes": 32 << 20}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Paths of model and adapter, and both laws by transformers."""
    folder = tmp_path_factory.mktemp("lora")
    model = save_model(folder / "model")
    adapter, merged = save_adapter(folder / "adapter", model)
    return model, adapter, LlamaForCausalLM.from_pretrained(model).eval(), merged


@pytest.fixture(scope="module")
def adapted(models):
    model, adapter, *_ = models
    policy = VllmPolicy.start(model, lora=adapter, **SMALL)
    yield policy
    policy.close()


@torch.inference_mode()
def likely(model):
    logits = model(torch.tensor([PROMPT + TOKENS])).logits[0, len(PROMPT) - 1 : -1]
    return logits.log_softmax(-1).gather(1, torch.tensor(TOKENS)[:, None])[:, 0].tolist()


def scored(policy):
    return asyncio.run(policy.log_probs(PROMPT, TOKENS))


def drawn(policy, boundary=None):
    async def main():
        return await concurrently(
            policy.extend(PROMPT, max_new_tokens=6, key=Key(2, (i,)), boundary=boundary)
            for i in range(12)
        )

    return asyncio.run(main())


def test_the_adapter_draws_and_the_model_beside_it_is_what_it_was(models, adapted):
    _, adapter, base, merged = models
    own = VllmPolicy(adapted.engine)
    assert scored(adapted) == pytest.approx(likely(merged), abs=1e-4)
    assert scored(own) == pytest.approx(likely(base), abs=1e-4)
    assert max(abs(a - b) for a, b in zip(likely(base), likely(merged), strict=True)) > 0.1
    assert drawn(adapted) != drawn(own) == drawn(VllmPolicy(adapted.engine))
    firsts = drawn(adapted, Entropy(1.5, 1))
    for first, whole in zip(firsts, drawn(adapted), strict=True):
        assert whole.tokens[: len(first.tokens)] == first.tokens
    given = own.with_adapter(adapter)
    assert drawn(given) == drawn(adapted)
    assert given.fingerprint == adapted.fingerprint != own.fingerprint


def test_the_content_of_the_adapter_is_part_of_the_fingerprint(models, adapted, tmp_path):
    model, *_ = models
    other, merged = save_adapter(tmp_path / "other", model, seed=2)
    policy = VllmPolicy(adapted.engine).with_adapter(other)
    assert policy.fingerprint != adapted.fingerprint
    assert scored(policy) == pytest.approx(likely(merged), abs=1e-4)


def test_an_aligner_over_an_engine_of_the_caller_s(models, monkeypatch):
    import vllm

    model, adapter, base, merged = models
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    arguments = {"dtype": "float32", "enforce_eager": True, "max_model_len": 64} | SMALL
    llm = vllm.LLM(model, enable_lora=True, enable_chunked_prefill=False, **arguments)
    strategy = BestOf(n=2, inner=Plain(max_tokens=6))
    with Aligner(llm, lambda prompt, answer: float(len(answer)), strategy, lora=adapter) as aligner:
        assert scored(aligner.policy) == pytest.approx(likely(merged), abs=1e-4)
        assert len(aligner.generate("yes 1", use_tqdm=False)) == 1
    assert scored(VllmPolicy.adopt(llm)) == pytest.approx(likely(base), abs=1e-4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"peft_type": "PROMPT_TUNING"}, "runs no other kind"),
        ({"r": None}, "adapter_config.json of a LoRA adapter"),
        ({"r": 600}, "max_lora_rank=600"),
        ({"bias": "all"}, "vLLM cannot load the adapter .*: Adapter bias is not supported"),
        ({"use_dora": True}, "vLLM cannot load the adapter"),
    ],
)
def test_adapters_that_do_not_fit(models, adapted, tmp_path, change, says):
    model, *_ = models
    wrong, _ = save_adapter(tmp_path / "wrong", model, **change)
    with pytest.raises(ConfigError, match=says):
        VllmPolicy(adapted.engine).with_adapter(wrong)
    assert scored(adapted) == scored(adapted)  # the engine runs on


def test_what_an_adapter_needs(models, adapted, policy, tmp_path):
    model, adapter, *_ = models
    assert Adapter.read(adapter).engine_arguments({}) == {"enable_lora": True, "max_lora_rank": 8}
    assert Adapter.read("org/not-here").engine_arguments({"max_lora_rank": 64}) == {
        "enable_lora": True,
        "max_lora_rank": 64,
    }
    large = Path(save_adapter(tmp_path / "large", model, rank=9)[0])
    assert Adapter.read(str(large)).engine_arguments({})["max_lora_rank"] == 16
    for engine, given in ((policy.engine, adapter), (adapted.engine, str(large))):
        with pytest.raises(ConfigError, match="start it with enable_lora=True, max_lora_rank="):
            VllmPolicy(engine).with_adapter(given)
    (large / "adapter_model.safetensors").unlink()
    for given, says in (
        (str(large), "adapter_model.safetensors is missing"),
        (str(tmp_path / "none"), "no such folder"),
        (model, "adapter_config.json of a LoRA adapter"),
        (3, "give the folder or the id"),
    ):
        with pytest.raises(ConfigError, match=says):
            VllmPolicy.start(model, lora=given)

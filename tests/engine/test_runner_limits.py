"""What would end an engine in its worker is refused before it is sent there, at every door.

The second model runner takes less than the first. Without Triton there is none: an engine of the
first is taken for one of the second here, to try the doors. What the second really takes is tried
on it (``tests/v2``).
"""

import asyncio

import pytest

from rsalign import Aligner, ConfigError, Plain, Sampling, aligned
from rsalign.embedded import POLICY
from rsalign.engines.vllm.runner_limits import check_runner_limits
from rsalign.hooks.shared.admission import check_hooks
from rsalign.policies.vllm import VllmPolicy

pytestmark = pytest.mark.engine

SEEDS = [1 << 64, -(1 << 63) - 1, True, 1.5]  # of which both runners die
TOO_LARGE = {
    "seed": {"seed": 1 << 63},
    "seed of the last sample": {"seed": (1 << 63) - 2, "n": 3},
    "allowed_token_ids": {"allowed_token_ids": [5] * 1025},
    "logit_bias": {"logit_bias": dict.fromkeys(range(1025), 1.0)},
    "stop tokens": {"min_tokens": 1, "stop_token_ids": list(range(100, 228))},  # and EOS
    "max_tokens": {"max_tokens": (1 << 31) - 1},
    "bad_words": {"bad_words": ["such a long word " * 200]},
}
LARGE = {
    "seed": {"seed": (1 << 63) - 3, "n": 3},
    "allowed_token_ids": {"allowed_token_ids": [5] * 1024},
    "stop tokens": {"min_tokens": 1, "stop_token_ids": list(range(100, 227))},
    "many stop tokens": {"stop_token_ids": list(range(100, 400))},
    "bad_words": {"bad_words": ["such a long word "] * 20},
}


@pytest.fixture
def second(monkeypatch):
    """Engines are taken for those of the second runner."""
    monkeypatch.setattr("rsalign.engines.vllm.runner_limits._runner", lambda config: "v2")


def params(**asked):
    from vllm import SamplingParams

    return SamplingParams(**{"max_tokens": 2} | asked)


def send(policy, **asked):
    return asyncio.run(policy.engine.generate((5, 6, 7), params(**asked)))


@pytest.mark.parametrize("seed", SEEDS)
def test_seeds_that_no_runner_takes(policy, seed):
    with pytest.raises(ConfigError, match=r"seeds of this engine are|give a whole number"):
        send(policy, seed=seed)
    assert send(policy, seed=3).finished


@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_the_second_runner_dies_of(policy, second, name):
    word = name.split()[0]
    asked = TOO_LARGE[name]
    with pytest.raises(ConfigError, match=word):
        send(policy, **asked)
    with pytest.raises(ConfigError, match=word):
        check_hooks(params(**asked), policy.engine.vllm_config)


@pytest.mark.parametrize("name", TOO_LARGE)
def test_the_first_runner_serves_it(policy, name):
    if policy.engine.vllm_config.use_v2_model_runner:
        pytest.skip("this process has the second runner")
    if name != "logit_bias":  # vLLM refuses it: there are fewer tokens
        assert send(policy, **TOO_LARGE[name]).finished


@pytest.mark.parametrize("name", LARGE)
def test_what_the_second_runner_takes(policy, second, name):
    check_runner_limits(params(**LARGE[name]), policy.engine.vllm_config)


def test_policies_and_all_who_use_them(policy, second):
    """Before anything is drawn: `with_sampling`, a start, an adoption, an aligner's parameters."""
    law = Sampling(allowed_token_ids=(5,) * 1025)
    with pytest.raises(ConfigError, match="1025 allowed_token_ids, but at most 1024"):
        policy.with_sampling(law)
    with pytest.raises(ConfigError, match="1025 allowed_token_ids"):
        VllmPolicy.adopt(policy.engine.vllm_engine, sampling=law)
    with Aligner(policy, strategy=Plain()) as aligner:
        for asked in ({"allowed_token_ids": [5] * 1025}, {"bad_words": ["such a long one " * 200]}):
            with pytest.raises(ConfigError, match="vLLM's second model runner"):
                aligner.generate("Hello", params(**asked), use_tqdm=False)
    assert policy.engine.num_open == 0


def test_inside_an_aligned_block(monkeypatch):
    """Requests that no strategy answers go to vLLM itself, and are checked, too."""
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    from vllm import LLM

    from rsalign.engines.vllm.building import engine_arguments

    small = {"kv_cache_memory_bytes": 16 << 20, "max_model_len": 64}
    llm = LLM(**engine_arguments(POLICY, small, pooling=False))
    with aligned(llm, strategy=Plain(max_tokens=4)):
        asked = params(seed=1 << 64, extra_args={"rsalign": "none"})
        with pytest.raises(ConfigError, match="seeds of this engine"):
            llm.generate("Hello", asked, use_tqdm=False)
        assert llm.generate("Hello", params(seed=1 << 62), use_tqdm=False)

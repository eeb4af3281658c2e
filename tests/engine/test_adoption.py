"""Engines that the caller owns are used and left running."""

import asyncio

import pytest

from rsalign import Aligner, BestOf, ConfigError, Plain
from rsalign.embedded import POLICY, REWARD
from rsalign.embedded.problems import problems

pytestmark = pytest.mark.engine

ARGUMENTS = {
    "dtype": "float32",
    "enforce_eager": True,
    "block_size": 32,
    "kv_cache_memory_bytes": 64 << 20,
    "enable_chunked_prefill": False,
    "max_num_batched_tokens": 8192,
}
CONVERSATIONS = [[{"role": "user", "content": p.question}] for p in problems("heldout", 4)]


def test_llm(policy, reward, monkeypatch):
    """In process; a pooling `LLM` as the reward too."""
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    from vllm import LLM, SamplingParams

    llm = LLM(POLICY, logprobs_mode="processed_logprobs", **ARGUMENTS)
    judge = LLM(REWARD, runner="pooling", **ARGUMENTS)
    greedy = SamplingParams(temperature=0, max_tokens=64)
    before = llm.chat(CONVERSATIONS, greedy, use_tqdm=False)
    strategy = BestOf(n=3, inner=Plain(max_tokens=64))
    with Aligner(llm, judge, strategy) as aligner:
        adopted = aligner.chat(CONVERSATIONS)
    with Aligner(policy, reward, strategy) as aligner:
        own = aligner.chat(CONVERSATIONS)
    assert [r.outputs[0].token_ids for r in adopted] == [r.outputs[0].token_ids for r in own]
    after = llm.chat(CONVERSATIONS, greedy, use_tqdm=False)
    assert [r.outputs[0].text for r in after] == [r.outputs[0].text for r in before]


def test_raw_log_probs_are_trusted_only_where_they_are_right(monkeypatch):
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    from vllm import LLM, SamplingParams

    llm = LLM(POLICY, **ARGUMENTS)  # vLLM's default: raw_logprobs
    with Aligner(llm) as aligner:
        same, cold = aligner.chat(
            CONVERSATIONS[:2],
            [SamplingParams(max_tokens=8), SamplingParams(max_tokens=8, temperature=0.5)],
        )
    assert same.outputs[0].cumulative_logprob < 0
    assert cold.outputs[0].cumulative_logprob is None


def test_async_llm(policy, reward):
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    from rsalign.engines.vllm.environment import temporary_environment

    strategy = BestOf(n=2, inner=Plain(max_tokens=48))

    async def main():
        with temporary_environment(VLLM_ENABLE_V1_MULTIPROCESSING="0"):
            engine = AsyncLLM.from_engine_args(
                AsyncEngineArgs(model=POLICY, logprobs_mode="processed_logprobs", **ARGUMENTS)
            )
        try:
            async with Aligner(engine, reward, strategy) as aligner:
                adopted = await aligner.agenerate(
                    [{"messages": conversation} for conversation in CONVERSATIONS]
                )
                with pytest.raises(ConfigError, match="another event loop"):
                    await asyncio.to_thread(aligner.chat, CONVERSATIONS)
            assert engine.is_running
            return adopted
        finally:
            engine.shutdown()

    adopted = asyncio.run(main())
    with Aligner(policy, reward, strategy) as aligner:
        own = aligner.chat(CONVERSATIONS)
    assert [r.outputs[0].token_ids for r in adopted] == [r.outputs[0].token_ids for r in own]

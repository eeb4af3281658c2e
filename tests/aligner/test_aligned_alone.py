"""A block in a process where the caller's engine is the only other one."""

import os
import sys

import forked
import pytest

pytestmark = pytest.mark.engine

PROGRAM = """
from rsalign.engines.vllm.environment import import_vllm

import_vllm()
from vllm import LLM, SamplingParams

from rsalign import BestOf, aligned
from rsalign.embedded import POLICY, REWARD

small = {"dtype": "float32", "enforce_eager": True, "kv_cache_memory_bytes": 64 << 20}
llm = LLM(POLICY, enable_chunked_prefill=False, max_num_batched_tokens=8192, **small)
greedy = SamplingParams(temperature=0, max_tokens=8)
before = llm.generate("So", greedy, use_tqdm=False)[0].outputs
with aligned(llm, REWARD, BestOf(n=2), reward_args={"kv_cache_memory_bytes": 64 << 20}):
    assert llm.generate("So", greedy, use_tqdm=False)[0].alignment.warnings  # one draw is enough
assert llm.generate("So", greedy, use_tqdm=False)[0].outputs == before
print("as before")
"""


def test_the_end_of_the_rewards_engine_is_not_that_of_the_callers():
    """What engines of one process share is torn down with the last of them, not before."""
    done = forked.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "as before" in done.stdout, done.stderr

"""One pair of in-process engines serves the whole session; starting them costs seconds."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: float32 results are then exact

from rsalign import Aligner, Message, Prompt
from rsalign.embedded import POLICY, REWARD
from rsalign.embedded.problems import problem
from rsalign.policies.vllm import VllmPolicy
from rsalign.rewards.vllm import VllmReward

SMALL = {"kv_cache_memory_bytes": 64 << 20}
TOGETHER = ("serve", "engine")
"""Folders whose tests share servers that take long to start."""


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers (``-n 2``) a file stays in one, and so do the tests that share a server.

    What takes longest begins first, so that the workers end together.
    """
    here = Path(__file__).parent

    def group(item: pytest.Item) -> str:
        folder = item.path.parent.relative_to(here) if here in item.path.parents else None
        return str(folder) if str(folder) in TOGETHER else str(item.path)

    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
    items.sort(key=lambda item: group(item) not in TOGETHER)  # stable


@pytest.fixture(scope="session")
def policy() -> Iterator[VllmPolicy]:
    """The embedded policy on the real engine."""
    policy = VllmPolicy.start(POLICY, **SMALL)
    yield policy
    policy.close()


@pytest.fixture(scope="session")
def beside() -> Iterator[VllmPolicy]:
    """The same on an `AsyncLLM`, whose core is in a process of its own."""
    policy = VllmPolicy.start(POLICY, backend="async", **SMALL)
    yield policy
    policy.close()


@pytest.fixture(scope="session")
def reward() -> Iterator[VllmReward]:
    """The embedded reward model on the real engine."""
    reward = VllmReward.start(REWARD, **SMALL)
    yield reward
    reward.close()


@pytest.fixture(scope="session")
def aligner(policy: VllmPolicy, reward: VllmReward) -> Iterator[Aligner]:
    """An aligner over both."""
    with Aligner(policy, reward) as aligner:
        yield aligner


@pytest.fixture(scope="session")
def ask(policy: VllmPolicy):
    """Held-out problems as prompts."""

    def prompt(index: int) -> Prompt:
        messages = (Message("user", problem("heldout", index).question),)
        return Prompt(messages, policy.encode_chat(messages))

    return prompt

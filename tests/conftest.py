"""One pair of in-process engines serves the whole session; starting them costs seconds."""

import os
from collections.abc import Iterator
from typing import Any

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


def together(path: str) -> str:
    """What stays in one of several workers (``-n 2``): a file, or tests that share a server."""
    folder = path.split("/")[-2]
    return folder if folder in TOGETHER else path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that workers end together."""
    items.sort(key=lambda item: together(item.nodeid.split("::")[0]) not in TOGETHER)  # stable


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Its own ``--dist loadgroup`` does not work with pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduler(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return together(nodeid.split("::")[0])

    return Scheduler(config, log)


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

"""Engines that tests share, how many examples properties get, and how tests spread over workers.

Starting an engine takes seconds, so one pair of engines in the test process serves all tests of a
worker. Tests marked ``nightly`` are left out of ``make test``; ``make nightly`` runs them too, and
gives each property many more examples.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: float32 results are then exact

from rsalign import Aligner, Message, Prompt
from rsalign.embedded import POLICY, REWARD
from rsalign.embedded.problems import problem
from rsalign.policies.vllm import VllmPolicy
from rsalign.rewards.vllm import VllmReward

SMALL = {"kv_cache_memory_bytes": 64 << 20}

settings.register_profile("ci", max_examples=40, derandomize=True, deadline=None, database=None)
settings.register_profile("nightly", max_examples=1000, deadline=None)
settings.load_profile("ci")  # unless --hypothesis-profile names another one

GROUPS = {
    "tests/serve/test_ending": "servers of its own",
    "tests/serve/test_plugin": "a server of its own",
    "tests/serve/test_client": "an engine in another process",
    "tests/serve/": "one server",
    "tests/engine/test_remote": "two servers",
    "tests/engine/test_model_identity": "two servers",
    "tests/engine/test_parts_conform": "an engine in another process",
    "tests/engine/test_hooks_beside_this_process": "an engine in another process",
    "tests/engine/test_isolation_on_the_engine": "an engine in another process",
    # Ray joins whatever cluster of this machine was started last: one at a time
    "tests/eval/test_distributed": "a cluster",
    "tests/eval/test_launchers": "a cluster",
}
"""What test files share, by the beginning of their paths; the first that fits counts. A server
takes long to start, so all tests of a group run in one worker."""
LONG = (
    "one server",
    "a cluster",
    "servers of its own",
    "two servers",
    "an engine in another process",
    "tests/laws/test_qalign",
    "tests/laws/test_cards",
    "tests/engine/",
    "a server of its own",
    "a family",
    "tests/eval/",
    "tests/cli/",
    "tests/laws/",
    "tests/aligner/",
    "tests/rewards/",
    "tests/bench/",
)
"""What takes longest begins first, so that workers end together."""


def group_of(nodeid: str) -> str:
    """What stays in one of several workers (``-n 2``): a file, or files that share engines."""
    path = nodeid.split("::")[0]
    if path.startswith("tests/families/"):  # whose engines are started once
        return f"a family: {nodeid.partition('[')[2].rstrip(']').partition('-')[0]}"
    return next((group for start, group in GROUPS.items() if path.startswith(start)), path)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Modules that only help tests are not looked through for doctests: some start engines."""
    is_helper = collection_path.suffix == ".py" and not collection_path.name.startswith("test_")
    return True if is_helper and collection_path.name != "conftest.py" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups that take long come first; the order is otherwise that of files and lines."""

    def place(item: pytest.Item) -> int:
        group = group_of(item.nodeid)
        starts = (i for i, start in enumerate(LONG) if group.startswith(start))
        return next(starts, len(LONG))

    items.sort(key=place)  # stable


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Its own ``--dist loadgroup`` does not work with pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduler(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

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
def ask(policy: VllmPolicy) -> Callable[[int], Prompt]:
    """Held-out problems as prompts."""

    def prompt(index: int) -> Prompt:
        messages = (Message("user", problem("heldout", index).question),)
        return Prompt(messages, policy.encode_chat(messages))

    return prompt

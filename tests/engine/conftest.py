"""One process serves both models to all tests that need a server."""

from collections.abc import Iterator

import pytest
from server import Server, hook

from rsalign.embedded import POLICY, REWARD
from rsalign.policies.vllm_server import VllmServerPolicy
from rsalign.rewards.remote import RemoteReward


@pytest.fixture(scope="session")
def servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[str]]:
    """Addresses of the policy, with the hook that ends segments, and of the reward."""
    server = Server(
        tmp_path_factory.mktemp("servers") / "log",
        f"{POLICY} --enable-prompt-tokens-details --logprobs-mode processed_logprobs "
        f"--logits-processors {hook('SegmentEnd')}",
        f"{REWARD} --runner pooling",
    )
    try:
        for engine in ("policy", "reward"):  # these start meanwhile
            request.getfixturevalue(engine)
        yield server.addresses()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def served(servers: list[str]) -> Iterator[VllmServerPolicy]:
    """The policy, without a word about the hook."""
    policy = VllmServerPolicy.connect(servers[0], processed_log_probs=True)
    yield policy
    policy.close()


@pytest.fixture(scope="session")
def judge(servers: list[str]) -> Iterator[RemoteReward]:
    """The reward."""
    reward = RemoteReward.connect(f"{servers[1]}/v1/")
    yield reward
    reward.close()

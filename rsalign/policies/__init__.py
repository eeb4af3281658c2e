"""Language models as policies (`rsalign.core.protocols.Policy`): in vLLM, or behind its server."""

from collections.abc import Callable, Mapping
from typing import Any

from rsalign.policies.vllm import VllmPolicy
from rsalign.policies.vllm_server import VllmServerPolicy

POLICIES: Mapping[str, Callable[..., Any]] = {
    "vllm": VllmPolicy.start,
    "server": VllmServerPolicy.connect,
}
"""The function that makes a policy, by the name that settings use for its class."""

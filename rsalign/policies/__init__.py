"""Policies: language models that draw tokens (`rsalign.core.protocols.Policy`)."""

from collections.abc import Callable, Mapping
from typing import Any

from rsalign.policies.vllm import VllmPolicy
from rsalign.policies.vllm_server import VllmServerPolicy

POLICIES: Mapping[str, Callable[..., Any]] = {
    "vllm": VllmPolicy.start,
    "server": VllmServerPolicy.connect,
}
"""What settings call each class of policies: the function that makes one."""

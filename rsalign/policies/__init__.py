"""Policies: language models that draw tokens (`rsalign.core.protocols.Policy`)."""

from collections.abc import Callable, Mapping
from typing import Any

from rsalign.policies.openai import OpenAIPolicy
from rsalign.policies.vllm import VllmPolicy

POLICIES: Mapping[str, Callable[..., Any]] = {
    "vllm": VllmPolicy.start,
    "server": OpenAIPolicy.connect,
}
"""What settings call each class of policies: the function that makes one."""

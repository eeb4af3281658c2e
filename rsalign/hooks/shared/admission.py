"""Checks what a request asks of all hooks of an engine, before it is sent there."""

from typing import TYPE_CHECKING

from rsalign.core.errors import ConfigError
from rsalign.core.types import Sampling
from rsalign.engines.vllm.runner_limits import check_runner_limits
from rsalign.hooks.arithmetic.request import read_arithmetic_request
from rsalign.hooks.guided.request import check_guidance, read_guidance
from rsalign.hooks.loading import has_hook, how_to_have_hook
from rsalign.hooks.segment_end.request import read_segment_params
from rsalign.hooks.shared.arguments import read_arguments

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig

_READERS = {"rsalign_arithmetic_n": "Arithmetic", "rsalign_arithmetic_seed": "Arithmetic"}
_TICKETS = ("rsalign_report", "rsalign_statistics")


def check_hooks(params: "SamplingParams", config: "VllmConfig") -> None:
    """Refuses what a hook would refuse, what would be ignored, and what would kill the engine.

    vLLM checks a request only by the hooks that its engine has, without knowing the engine, and,
    where a response is streamed, only after the response has begun. For what kills an engine, see
    `rsalign.engines.vllm.runner_limits`.

    Args:
        params: of a request that goes to the engine unchanged.
        config: of the engine.

    Raises:
        ConfigError: if a key is unknown, has a value that is not allowed, is read by no hook of
            this engine, or names a ticket, whose report nobody could read; or if the request is
            larger than the engine's workers can take.
    """
    check_runner_limits(params, config)
    if not params.extra_args:
        return
    guidance = read_guidance(params.extra_args)
    check_guidance(
        Sampling(guidance=guidance, repetition_penalty=params.repetition_penalty), config
    )
    for key in read_arguments(params.extra_args):
        if key in _TICKETS:
            raise ConfigError(
                f"{key} names a ticket, under which this process alone can read what a hook has "
                "learnt, and which would disturb another request of the same ticket: leave it out; "
                "strategies that need it write it themselves"
            )
        hook = _READERS.get(key, "SegmentEnd")
        if not has_hook(config, hook):
            raise ConfigError(
                f"{key} is read inside the engine, by a hook that this one has not: "
                f"{how_to_have_hook(config, hook)}"
            )
    read_segment_params(params)
    read_arithmetic_request(params)

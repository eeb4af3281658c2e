"""Whether a request's tokens are measured: how it is written into `extra_args`, and read there."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rsalign.core.errors import ConfigError
from rsalign.core.types import Sampling
from rsalign.engines.vllm.guards import has_hook, hook_path, measures_first
from rsalign.hooks.shared.request import HIDING, hides_the_model, read_arguments

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig

_HOOK = "TokenStatistics"
_KEY = "rsalign_statistics"


@dataclass(frozen=True, slots=True)
class StatisticsRequest:
    """What one request wants measured.

    Attributes:
        ticket: under which it is reported (`rsalign.engines.reports`).
    """

    ticket: str


def read_statistics_request(params: "SamplingParams") -> StatisticsRequest | None:
    """What the `extra_args` of `params` ask for; None if nothing.

    Raises:
        ConfigError: if a key of ours is unknown, its value is not allowed, or `params` ask for
            several responses, which would share one ticket.
    """
    ticket = read_arguments(params.extra_args).get(_KEY)
    if ticket is None:
        return None
    if not ticket:
        raise ConfigError(f"{_KEY}='': give a ticket, under which the statistics are read")
    if params.n != 1:
        raise ConfigError(
            f"{_KEY}={ticket!r} with n={params.n}: a ticket is for one response; send one request "
            "for each"
        )
    return StatisticsRequest(ticket)


def write_statistics_request(config: "VllmConfig", law: Sampling, ticket: str) -> dict[str, str]:
    """The `extra_args` that have a request's tokens measured.

    Args:
        config: of the engine that is to measure.
        law: what the tokens are drawn from.
        ticket: under which the statistics are read.

    Raises:
        ConfigError: if the engine cannot, or not exactly.
    """
    path = hook_path(config, _HOOK)
    if not has_hook(config, _HOOK):
        raise ConfigError(
            f"how certain the model is of each token is measured inside the engine, and this one "
            f"cannot: start it with logits_processors=[{path!r}, ...] (on the command line, "
            f"--logits-processors {path})"
        )
    if not measures_first(config):
        named = config.model_config.logits_processors
        raise ConfigError(
            f"{path} must see the model's logits before SegmentEnd changes them: name it before "
            f"it in logits_processors={named!r}"
        )
    if hides_the_model(law, path):
        raise ConfigError(
            f"how certain the model is of each token cannot be told under {law}, which hides its "
            f"own law: leave out {HIDING}"
        )
    return {_KEY: ticket}

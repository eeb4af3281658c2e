"""What a request asks of `TokenStatistics`, and how it is written into `extra_args`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rsalign.core.errors import ConfigError
from rsalign.core.types import Sampling
from rsalign.hooks.loading import (
    has_hook,
    hook_path,
    how_to_have_hook,
    measures_before_segment_end,
)
from rsalign.hooks.shared.arguments import HIDING, hides_the_model, read_arguments

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig

_HOOK = "TokenStatistics"
_KEY = "rsalign_statistics"


@dataclass(frozen=True, slots=True)
class StatisticsRequest:
    """A request whose tokens are measured.

    Attributes:
        ticket: of its report (`rsalign.engines.reports`).

    Example:
        >>> StatisticsRequest("6a1f").ticket
        '6a1f'
    """

    ticket: str


def read_statistics_request(params: "SamplingParams") -> StatisticsRequest | None:
    """Returns what the `extra_args` of `params` ask for; None if nothing.

    Raises:
        ConfigError: if a key is unknown, its value is not allowed, or `params` ask for several
            responses, which would share one ticket.
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
    """Returns the `extra_args` of a request whose tokens shall be measured.

    Args:
        config: of the engine.
        law: what the tokens are drawn from.
        ticket: of the report.

    Raises:
        ConfigError: if the engine cannot measure, or not exactly.
    """
    path = hook_path(config, _HOOK)
    if not has_hook(config, _HOOK):
        raise ConfigError(
            f"how certain the model is of each token is measured inside the engine, and this one "
            f"cannot: {how_to_have_hook(config, _HOOK)}"
        )
    if not measures_before_segment_end(config):
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

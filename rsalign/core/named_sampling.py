"""Sampling settings by name: ``"model"`` is what a model's authors recommend."""

from typing import Literal

from rsalign.core.checks import quote
from rsalign.core.errors import ConfigError
from rsalign.core.protocols import Policy, innermost
from rsalign.core.types import Sampling

MODEL_SAMPLING: Literal["model"] = "model"
"""The name of the sampling settings that a model's authors recommend."""


def named_sampling(policy: Policy, given: Sampling | str) -> Sampling:
    """Returns sampling settings; ``"model"`` are those that the model's authors recommend.

    Raises:
        ConfigError: if the policy does not know them (it has no ``model_sampling``), or `given` is
            neither.
    """
    if isinstance(given, Sampling):
        return given
    if given != MODEL_SAMPLING:
        raise ConfigError(
            f"sampling={quote(given)}: give a Sampling, or {MODEL_SAMPLING!r} for the settings "
            "that the model's authors recommend"
        )
    recommended = getattr(policy, "model_sampling", None)
    if not isinstance(recommended, Sampling):
        raise ConfigError(
            f"sampling={MODEL_SAMPLING!r}: {type(innermost(policy)).__name__} does not tell what "
            "the model's authors recommend (their generation_config.json); give the settings "
            "themselves"
        )
    return recommended

"""Makes `Steps` of a process reward model from its name and layout, for settings."""

from collections.abc import Callable
from typing import Any

from rsalign.core.errors import ConfigError
from rsalign.core.protocols import StepReward
from rsalign.core.types import Tokens
from rsalign.rewards.process import VllmStepReward
from rsalign.rewards.step_classifier import TransformersStepReward
from rsalign.rewards.step_layouts import Aggregate, StepLayout
from rsalign.rewards.steps import Splitter, Steps


def make_steps(
    *,
    decode: Callable[[Tokens], str],
    reward: StepReward | None = None,
    model: str | None = None,
    layout: StepLayout | None = None,
    aggregate: Aggregate | None = None,
    splitter: Splitter | None = None,
    empty: float = 0.0,
    **model_args: Any,
) -> Steps:
    """Makes `Steps` of a step reward, or of a process reward model, which is started.

    Args:
        decode: the policy's `text` method.
        reward: a step reward.
        model: instead of one, id or path of a process reward model. transformers runs models with a
            value head, vLLM all others.
        layout: of the model; None: ``"raw"``.
        aggregate: see `Steps`.
        splitter: see `Steps`.
        empty: see `Steps`.
        model_args: for `VllmStepReward.start` or `TransformersStepReward`.

    Raises:
        ConfigError: if there is not one of `reward` and `model`, or the model does not fit the
            layout.
    """
    joined: dict[str, Any] = {"aggregate": aggregate, "splitter": splitter, "empty": empty}
    if model is None:
        if reward is None:
            raise ConfigError(
                "reward steps needs a step reward (reward=vllm_steps reward.model=...), or a "
                "process reward model (model=... layout=...)"
            )
        if layout is not None or model_args:
            given = ", ".join([*(["layout"] if layout else []), *model_args])
            raise ConfigError(
                f"reward steps: {given} is for model=...; for reward=..., write reward.{given}"
            )
        return Steps(reward, decode, **joined)
    if reward is not None:
        raise ConfigError("reward steps: give reward=... or model=..., and not both")
    if layout is None:
        layout = StepLayout.named("raw")
    if layout.head == "value_head":
        made: StepReward = TransformersStepReward(model, decode, layout=layout, **model_args)
    else:
        made = VllmStepReward.start(model, decode=decode, layout=layout, **model_args)
    return Steps(made, decode, **joined)

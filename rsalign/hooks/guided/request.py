"""The guides of an engine, and how much of each a request asks for, flat in its `extra_args`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rsalign.core.errors import ConfigError
from rsalign.core.types import Sampling
from rsalign.engines.vllm.guards import GUIDES, has_hook, hook_path, named_guides

if TYPE_CHECKING:
    from vllm.config import VllmConfig

SAME_POLICY = "policy"
"""The `Guide.reference` that is the guided model itself."""

_HOOK = "Guided"
ALPHA = "rsalign_guided_alpha"
"""The key of the first guide's weight."""
_KEY = re.compile(rf"{ALPHA}(?:_(0|[1-9]\d*))?")
_MOST = 1000.0  # times a log-probability it is far from the end of float32
_MOSTGUIDES = 64


@dataclass(frozen=True, slots=True)
class Guide:
    """An autoregressive reward model, named when an engine is started; never by a request.

    It must have the policy's vocabulary, and sees the policy's tokens, prompt included.

    Attributes:
        model: a causal language model, Hugging Face id or path. The reward of token v after the
            prefix y is ln pi_r(v|y), nats.
        reference: a model that this is measured against: the reward is ln pi_r(v|y) / pi_ref(v|y).
            ``"policy"`` is the guided model itself.
    """

    model: str
    reference: str | None = None


def start_arguments(guides: Sequence[str | Guide], given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for `EngineArgs` with which an engine has these guides.

    Args:
        guides: a model's id or path stands for a guide without reference.
        given: the caller's other arguments.

    Raises:
        ConfigError: if a guide is neither.
    """
    if not guides:
        return dict(given)
    named: list[dict[str, str | None]] = []
    for guide in [guides] if isinstance(guides, str | Guide) else guides:
        if not isinstance(guide, str | Guide) or not guide:
            raise ConfigError(f"guides has {guide!r}: give a model's id or path, or a Guide")
        known = guide if isinstance(guide, Guide) else Guide(guide)
        named.append({"model": known.model, "reference": known.reference})
    # what reaches the engine's workers, wherever they are
    return {
        **given,
        "additional_config": {**(given.get("additional_config") or {}), GUIDES: named},
    }


def guides_of(config: "VllmConfig") -> tuple[Guide, ...]:
    """The guides of an engine so configured.

    Raises:
        ConfigError: if they are not written as `start_arguments` does.
    """
    named = named_guides(config) or ()
    try:
        return tuple(Guide(**({"model": g} if isinstance(g, str) else g)) for g in named)
    except TypeError as wrong:
        raise ConfigError(
            f"additional_config[{GUIDES!r}]={named!r}: give a list of models, or of objects with "
            "'model' and perhaps 'reference'"
        ) from wrong


def is_guidance(key: str) -> bool:
    """Whether a key of `extra_args` is for guides."""
    return _KEY.fullmatch(key) is not None


def read_guidance(extra_args: Mapping[str, Any] | None) -> tuple[float, ...]:
    """The weights that `extra_args` ask for, by guide; empty if all are 0. Other keys are ignored.

    ``rsalign_guided_alpha_1`` is the second guide's; ``rsalign_guided_alpha`` is the first's.

    Raises:
        ConfigError: if a value is not allowed.
    """
    alphas: dict[int, float] = {}
    for key, value in (extra_args or {}).items():
        match = _KEY.fullmatch(key)
        if match is None:
            continue
        guide = int(match[1] or 0)
        if guide in alphas:
            raise ConfigError(f"{ALPHA} and {ALPHA}_0 are the same: give one of them")
        if guide >= _MOSTGUIDES:
            raise ConfigError(f"{key}: there are never more than {_MOSTGUIDES} guides")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{key}={value!r}: give a number")
        if not abs(value) <= _MOST:
            raise ConfigError(f"{key}={value!r}: give a number between -{_MOST:g} and {_MOST:g}")
        alphas[guide] = float(value)
    last = max((guide for guide, alpha in alphas.items() if alpha), default=-1)
    return tuple(alphas.get(guide, 0.0) for guide in range(last + 1))


def write_guidance(alphas: Sequence[float]) -> dict[str, float]:
    """The `extra_args` of weights, ``(guides,)``."""
    return {f"{ALPHA}_{i}": alpha for i, alpha in enumerate(alphas) if alpha}


def refuse_penalties(alphas: Sequence[float], law: Any) -> None:
    """Refuses `repetition_penalty` beside guidance.

    It multiplies logits, so that it depends on where their zero is, which a product of laws leaves
    open.

    Args:
        alphas: weights of the guides.
        law: a `Sampling`, or anything with its attributes.

    Raises:
        ConfigError: if both are asked for.
    """
    if any(alphas) and law.repetition_penalty != 1:
        raise ConfigError(
            f"repetition_penalty={law.repetition_penalty} has no meaning for a guided law, whose "
            "logits have no zero: leave it out, or guidance"
        )


def check_guidance(law: Sampling, config: "VllmConfig") -> None:
    """Refuses guidance that an engine cannot honour.

    Raises:
        ConfigError: if it has not so many guides, or the law has no meaning.
    """
    if not any(law.guidance):
        return
    refuse_penalties(law.guidance, law)
    known = guides_of(config)
    if len(law.guidance) > len(known) or not has_hook(config, _HOOK):
        raise ConfigError(
            f"guidance={law.guidance!r}: this engine has {len(known)} guides; start it with "
            "VllmPolicy.start(..., guides=[...]), or with additional_config="
            f"{{{GUIDES!r}: [...]}} and logits_processors=[{hook_path(config, _HOOK)!r}]"
        )

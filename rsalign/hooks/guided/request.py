"""The guides of an engine, and the weights that a request gives them in its `extra_args`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rsalign.core.errors import ConfigError
from rsalign.core.types import Sampling
from rsalign.engines.vllm.logits_processors import why_no_logits_processors
from rsalign.hooks.loading import GUIDES, has_hook, hook_path, listed_guides
from rsalign.hooks.shared.arguments import ALPHA, GUIDE_KEY, read_arguments

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig

SAME_POLICY = "policy"
"""The `Guide.reference` that is the guided model itself."""

_HOOK = "Guided"
_MAX_ALPHA = 1000.0  # times a log-probability it is far from the end of float32
_MAX_GUIDES = 64


@dataclass(frozen=True, slots=True)
class Guide:
    """An autoregressive reward model, named when an engine is started; never by a request.

    It must have the policy's vocabulary. It reads the policy's tokens, the prompt's included.

    Attributes:
        model: a causal language model, Hugging Face id or path. The reward of token v after the
            prefix y is ln pi_r(v|y), nats.
        reference: a second model, Hugging Face id or path, or ``"policy"`` for the guided model
            itself. The reward is then ln pi_r(v|y) / pi_ref(v|y).

    Example:
        >>> Guide("org/reward", reference="policy").reference
        'policy'
    """

    model: str
    reference: str | None = None


def start_arguments(guides: Sequence[str | Guide], given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments for `EngineArgs` with which an engine has these guides.

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
    # vLLM hands it to the engine's workers, wherever they are
    return {
        **given,
        "additional_config": {**(given.get("additional_config") or {}), GUIDES: named},
    }


def read_guides(config: "VllmConfig") -> tuple[Guide, ...]:
    """Returns the guides of an engine with this configuration.

    Raises:
        ConfigError: if they are not written as `start_arguments` writes them.
    """
    named = listed_guides(config) or ()
    try:
        return tuple(Guide(**({"model": g} if isinstance(g, str) else g)) for g in named)
    except TypeError as wrong:
        raise ConfigError(
            f"additional_config[{GUIDES!r}]={named!r}: give a list of models, or of objects with "
            "'model' and perhaps 'reference'"
        ) from wrong


def read_guidance(extra_args: Mapping[str, Any] | None) -> tuple[float, ...]:
    """Returns the weights that `extra_args` give, by guide; empty if all are 0.

    Other keys are ignored.
    ``rsalign_guided_alpha`` or ``rsalign_guided_alpha_0`` is the first guide's weight, and
    ``rsalign_guided_alpha_1`` the second's.

    Raises:
        ConfigError: if a value is not allowed.

    Example:
        >>> read_guidance({"rsalign_guided_alpha_1": 0.5, "other": 2})
        (0.0, 0.5)
    """
    alphas: dict[int, float] = {}
    for key, value in (extra_args or {}).items():
        match = GUIDE_KEY.fullmatch(key)
        if match is None:
            continue
        guide = int(match[1] or 0)
        if guide in alphas:
            raise ConfigError(f"{ALPHA} and {ALPHA}_0 are the same: give one of them")
        if guide >= _MAX_GUIDES:
            raise ConfigError(f"{key}: there are never more than {_MAX_GUIDES} guides")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{key}={value!r}: give a number")
        if not abs(value) <= _MAX_ALPHA:
            raise ConfigError(
                f"{key}={value!r}: give a number between -{_MAX_ALPHA:g} and {_MAX_ALPHA:g}"
            )
        alphas[guide] = float(value)
    last = max((guide for guide, alpha in alphas.items() if alpha), default=-1)
    return tuple(alphas.get(guide, 0.0) for guide in range(last + 1))


def write_guidance(alphas: Sequence[float]) -> dict[str, float]:
    """Returns the `extra_args` of weights, ``(guides,)``."""
    return {f"{ALPHA}_{i}": alpha for i, alpha in enumerate(alphas) if alpha}


def refuse_penalties(alphas: Sequence[float], law: Any) -> None:
    """Refuses `repetition_penalty` beside guidance.

    It multiplies logits, so that its effect depends on a constant added to all of them, which a
    product of laws leaves open.

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


def check_guided(params: "SamplingParams") -> None:
    """Refuses what `Guided` cannot honour, and unknown keys: a typo would leave a request unguided.

    Raises:
        ConfigError: as `read_arguments`, `read_guidance` and `refuse_penalties`.
    """
    read_arguments(params.extra_args)
    refuse_penalties(read_guidance(params.extra_args), params)


def check_guidance(law: Sampling, config: "VllmConfig") -> None:
    """Refuses guidance that an engine cannot honour.

    Raises:
        ConfigError: if the engine has fewer guides, or the law has no meaning.
    """
    if not any(law.guidance):
        return
    refuse_penalties(law.guidance, law)
    known = read_guides(config)
    if len(law.guidance) > len(known) or not has_hook(config, _HOOK):
        raise ConfigError(
            f"guidance={law.guidance!r}: this engine has {len(known)} guides; "
            + (
                why_no_logits_processors(config)
                or "start it with VllmPolicy.start(..., guides=[...]), or with additional_config="
                f"{{{GUIDES!r}: [...]}} and logits_processors=[{hook_path(config, _HOOK)!r}]"
            )
        )

"""The keys of `extra_args` that are ours: one registry, so that every hook refuses what none knows.

They are flat, so that they pass through ``vllm_xargs`` of a server, too.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rsalign.core.errors import ConfigError
from rsalign.core.types import Sampling
from rsalign.hooks.guided.request import ALPHA, is_guidance, read_guidance, refuse_penalties

if TYPE_CHECKING:
    from vllm import SamplingParams

_STRATEGY, _NO_STRATEGY = "rsalign", "none"  # as in `rsalign.words.read`
_PREFIX = "rsalign_"
_KINDS: Mapping[str, tuple[type, ...]] = {
    "rsalign_entropy_threshold": (int, float),
    "rsalign_entropy_min_tokens": (int,),
    "rsalign_marks": (str,),
    "rsalign_marks_min_entropy": (int, float),
    "rsalign_marks_min_tokens": (int,),
    "rsalign_sentinel": (int,),
    "rsalign_report": (str,),
    "rsalign_statistics": (str,),
    "rsalign_arithmetic_n": (int,),
    "rsalign_arithmetic_seed": (int,),
}
KEYS = tuple(_KINDS)
"""All there are, but for the weights of guides."""
# A worker that cannot put a number into a tensor ends its engine: this is far from the ends of
# int64 and float32, and far beyond any entropy and any response.
_MOST = (1 << 31) - 1
_MOST_SEED = (1 << 63) - 1


def read_arguments(extra_args: Mapping[str, Any] | None) -> dict[str, Any]:
    """What of `extra_args` is ours, for whichever hook but `Guided`, which reads its own values.

    Args:
        extra_args: of a request's `SamplingParams`; keys that are not ours are ignored.

    Raises:
        ConfigError: if a key of ours is unknown, or its value is of the wrong type, not finite or
            too great for an engine; if a strategy is asked for, of which no hook knows.
    """
    if not extra_args:
        return {}
    if extra_args.get(_STRATEGY, _NO_STRATEGY) != _NO_STRATEGY:
        raise ConfigError(
            f"extra_args has {_STRATEGY}={extra_args[_STRATEGY]!r}, but this request goes to the "
            "engine itself, which knows no strategies: send it to `rsalign serve`, an "
            "AlignedClient or an LLM within `aligned(...)`, or leave the key out"
        )
    ours = {
        key: value
        for key, value in extra_args.items()
        if key.startswith(_PREFIX) and not is_guidance(key)
    }
    for key, value in ours.items():
        if key not in _KINDS:
            raise ConfigError(f"extra_args has {key!r}: there are only {known_keys()}")
        if not isinstance(value, _KINDS[key]) or isinstance(value, bool):
            names = " or ".join(kind.__name__ for kind in _KINDS[key])
            raise ConfigError(f"{key}={value!r}: must be of type {names}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{key}={value!r}: must be finite")
        most = _MOST_SEED if key == "rsalign_arithmetic_seed" else _MOST
        if isinstance(value, int | float) and not abs(value) <= most:
            raise ConfigError(f"{key} is beyond what an engine takes: give at most {most}")
    return ours


def known_keys() -> str:
    """For messages."""
    return f"{', '.join(KEYS)}, {ALPHA}, {ALPHA}_1, ..."


def check_guided(params: "SamplingParams") -> None:
    """Refuses what `Guided` cannot honour, and what is not known: a typo would else be unguided.

    Raises:
        ConfigError: as `read_arguments`, `read_guidance` and `refuse_penalties`.
    """
    read_arguments(params.extra_args)
    refuse_penalties(read_guidance(params.extra_args), params)


HIDING = "logit_bias, allowed_token_ids, bad_words, min_tokens, structured outputs and penalties"
"""What may hide the model's own law, for messages."""


def hides_the_model(law: Sampling, hook: str) -> bool:
    """Whether `law` changes the model's own logits before a hook of this path sees them."""
    penalties = (law.repetition_penalty - 1, law.presence_penalty, law.frequency_penalty)
    penalized = any(penalties) and hook.startswith("rsalign.hooks.v2")
    masked = law.allowed_token_ids or law.bad_words or law.structured_outputs or law.min_tokens
    return bool(law.logit_bias or masked) or penalized

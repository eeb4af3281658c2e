"""The keys of `extra_args` that hooks read: one list, so that every hook refuses an unknown key.

They are flat, so that they pass through ``vllm_xargs`` of a server, too.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from rsalign.core.errors import ConfigError
from rsalign.core.types import Sampling

_STRATEGY, _NO_STRATEGY = "rsalign", "none"  # as in `rsalign.words.read`
_PREFIX = "rsalign_"
_TYPES: Mapping[str, tuple[type, ...]] = {
    "rsalign_entropy_threshold": (int, float),
    "rsalign_entropy_min_tokens": (int,),
    "rsalign_marks": (str,),
    "rsalign_marks_min_entropy": (int, float),
    "rsalign_marks_min_tokens": (int,),
    "rsalign_confidence_window": (int,),
    "rsalign_confidence_below": (int, float),
    "rsalign_sentinel": (int,),
    "rsalign_shared_sentinel": (int,),
    "rsalign_report": (str,),
    "rsalign_statistics": (str,),
    "rsalign_arithmetic_n": (int,),
    "rsalign_arithmetic_seed": (int,),
}
KEYS = tuple(_TYPES)
"""All keys, but for the weights of guides."""
ALPHA = "rsalign_guided_alpha"
"""The key of the first guide's weight."""
GUIDE_KEY = re.compile(rf"{ALPHA}(?:_(0|[1-9]\d*))?")
"""A key of a guide's weight; the group is the guide's index."""
HIDING = "logit_bias, allowed_token_ids, bad_words, min_tokens, structured outputs and penalties"
"""The settings that may hide the model's own law, for messages."""
# A worker that cannot put a number into a tensor ends its engine: this is far from the ends of
# int64 and float32, and far beyond any entropy and any response.
_MAX = (1 << 31) - 1
_MAX_SEED = (1 << 63) - 1


def read_arguments(extra_args: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns the arguments of hooks, without the weights of guides (see `read_guidance`).

    Args:
        extra_args: of a request's `SamplingParams`; keys of others are ignored.

    Raises:
        ConfigError: if a key begins with ``rsalign_`` and is unknown; if a value is of the wrong
            type, not finite or too large; if a strategy is asked for, which no hook can run.

    Example:
        >>> read_arguments({"rsalign_marks": ".?", "other": 1, "rsalign_guided_alpha": 0.5})
        {'rsalign_marks': '.?'}
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
        if key not in _TYPES:
            raise ConfigError(f"extra_args has {key!r}: there are only {known_keys()}")
        if not isinstance(value, _TYPES[key]) or isinstance(value, bool):
            names = " or ".join(kind.__name__ for kind in _TYPES[key])
            raise ConfigError(f"{key}={value!r}: must be of type {names}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{key}={value!r}: must be finite")
        most = _MAX_SEED if key == "rsalign_arithmetic_seed" else _MAX
        if isinstance(value, int | float) and not abs(value) <= most:
            raise ConfigError(f"{key} is beyond what an engine takes: give at most {most}")
    return ours


def is_guidance(key: str) -> bool:
    """Tells whether a key of `extra_args` is the weight of a guide."""
    return GUIDE_KEY.fullmatch(key) is not None


def known_keys() -> str:
    """Returns all keys in one line, for messages."""
    return f"{', '.join(KEYS)}, {ALPHA}, {ALPHA}_1, ..."


def hides_the_model(law: Sampling, hook: str) -> bool:
    """Tells whether `law` changes the model's own logits before a hook sees them.

    Args:
        law: what tokens are drawn from.
        hook: the hook's import path, which names the model runner. The second runner applies
            penalties first.
    """
    penalties = (law.repetition_penalty - 1, law.presence_penalty, law.frequency_penalty)
    penalized = any(penalties) and hook.startswith("rsalign.hooks.v2")
    masked = law.allowed_token_ids or law.bad_words or law.structured_outputs or law.min_tokens
    return bool(law.logit_bias or masked) or penalized

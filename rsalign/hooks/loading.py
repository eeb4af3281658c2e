"""Which logits processors of ours an engine has, and in which order it gets them.

The order of one step is `_ORDER`. Guides change the model's law, so that all others see the guided
law; what measures the law comes before `SegmentEnd`, which changes logits; `Arithmetic` chooses the
token itself and comes last. The caller's own logits processors run after the guides and before the
rest.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rsalign.engines.vllm.logits_processors import (
    model_runner,
    refuse_sharded_sampling,
    why_no_logits_processors,
)

if TYPE_CHECKING:
    from vllm.config import VllmConfig

_ORDER = ("Guided", "TokenStatistics", "SegmentEnd", "Arithmetic")

GUIDES = "rsalign_guides"
"""The key of vLLM's `additional_config` that lists an engine's guides (`hooks.guided.request`)."""


def hook_path(config: "VllmConfig", name: str) -> str:
    """Returns the import path of a hook for an engine with this configuration.

    Args:
        config: vLLM's. It has two model runners, and each refuses the other's logits processors.
        name: of the class, such as ``"SegmentEnd"``.

    Returns:
        Such as ``"rsalign.hooks.v1:SegmentEnd"``.
    """
    return f"rsalign.hooks.{model_runner(config)}:{name}"


def has_hook(config: "VllmConfig", name: str) -> bool:
    """Tells whether an engine has the hook of this name, given by its path or as a class."""
    return _position(config, name) is not None


def how_to_have_hook(config: "VllmConfig", name: str) -> str:
    """Returns why an engine has not a hook and what to do, as the end of a message.

    Args:
        config: of an engine without the hook.
        name: of the class.
    """
    path = hook_path(config, name)
    return why_no_logits_processors(config) or (
        f"start it with logits_processors=[{path!r}] (on the command line, "
        f"--logits-processors {path})"
    )


def measures_before_segment_end(config: "VllmConfig") -> bool:
    """Tells whether an engine has `TokenStatistics`, and runs it before any `SegmentEnd`."""
    measure, end = _position(config, "TokenStatistics"), _position(config, "SegmentEnd")
    return measure is not None and (end is None or measure < end)


def listed_guides(config: "VllmConfig") -> Any:
    """Returns the guides as an engine's configuration lists them; None if there are none."""
    additional = getattr(config, "additional_config", None)
    return additional.get(GUIDES) if isinstance(additional, Mapping) else None


def add_hooks(config: "VllmConfig") -> None:
    """Adds our hooks to the configuration of an engine that is about to be built.

    It adds none to an engine that cannot have logits processors (a pooling engine, speculative
    decoding), no hook that is named already, and `Guided` only where guides are listed.

    Args:
        config: changed in place.

    Raises:
        ConfigError: if the hooks cannot work in this engine.
    """
    if why_no_logits_processors(config):
        return
    refuse_sharded_sampling(config)
    model = config.model_config
    for name in _ORDER:
        if has_hook(config, name) or (name == "Guided" and not listed_guides(config)):
            continue
        named = list(model.logits_processors or ())
        end = _position(config, "SegmentEnd")
        if name == "Guided":
            place = 0
        elif name == "TokenStatistics" and end is not None:
            place = end
        else:
            place = len(named)
        named.insert(place, hook_path(config, name))
        model.logits_processors = named


def _position(config: "VllmConfig", name: str) -> int | None:
    """The index of a hook in an engine's list of logits processors; None if it is not there."""
    path = hook_path(config, name)
    runner = model_runner(config)
    for position, named in enumerate(config.model_config.logits_processors or ()):
        if isinstance(named, type):
            module = named.__module__  # such as rsalign.hooks.segment_end.v1
            is_ours = module.startswith("rsalign.hooks.") and module.endswith(f".{runner}")
            is_named = is_ours and named.__qualname__ == name
        else:
            is_named = named == path
        if is_named:
            return position
    return None

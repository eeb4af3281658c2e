"""What none of these hooks can do."""

from typing import TYPE_CHECKING

from rsalign.core.errors import ConfigError

if TYPE_CHECKING:
    from vllm.config import VllmConfig


def refuse_speculation(config: "VllmConfig") -> None:
    """Refuses an engine that drafts tokens, in which a request has several rows of logits.

    The hooks find a request's row by its place in the batch, so that each would change another's.

    Raises:
        ConfigError: when the engine starts.
    """
    speculative = getattr(config, "speculative_config", None)
    if speculative is not None:
        raise ConfigError(
            f"speculative_config={speculative!r}: rsalign's logits hooks need one row of logits "
            "for each request; start the engine without speculative decoding, or without them "
            "(logits_processors)"
        )

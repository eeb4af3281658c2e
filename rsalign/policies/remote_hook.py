"""The segment-end logits processor in a vLLM server: detects it, and builds its arguments."""

from typing import TYPE_CHECKING, Any

from rsalign.core.errors import ConfigError
from rsalign.core.overdraw import needs_entropy
from rsalign.core.protocols import Boundary
from rsalign.core.types import Sampling
from rsalign.engines.answers import ServedModel
from rsalign.engines.remote import Replicas
from rsalign.hooks.segment_end.sentinel import choose_sentinel
from rsalign.hooks.shared.arguments import HIDING, hides_the_model

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_HOW = (
    "start the server with --logits-processors rsalign.hooks.v1:SegmentEnd (v2 for vLLM's second "
    "model runner) and connect with segment_end=True, or use FixedSize or "
    "Punctuation(min_entropy=0)"
)


def choose_stop_token(tokenizer: Any, served: ServedModel) -> int:
    """Chooses the stop token by which the logits processor marks the end of a segment.

    A server returns no report, so that the token must be one that responses do not need: a spare
    one, or else the one that they need least (`choose_sentinel`), whose probability is lost.

    Raises:
        ConfigError: if responses may need every token.
    """
    # the number of logits beyond the tokenizer's ids is not known for a server
    sentinel = choose_sentinel(tokenizer, len(tokenizer), declared_eos(served.root))
    if sentinel is None:
        raise ConfigError(
            f"segment_end=True: the tokenizer of {served.name!r} has no token that responses do "
            "not need and that could end a segment inside the engine: leave it out, and use "
            "FixedSize or Punctuation(min_entropy=0); an engine that rsalign starts needs no such "
            "token"
        )
    return sentinel


def declared_eos(model: str) -> tuple[int, ...]:
    """Returns the ids that a model's ``generation_config.json`` lists as ends of a response.

    Args:
        model: path or Hugging Face id; none are known where the file cannot be read here.
    """
    from transformers import GenerationConfig

    try:
        declared = GenerationConfig.from_pretrained(model).eos_token_id
    except (OSError, ValueError):  # on another machine, or an id that the hub does not have
        return ()
    return (declared,) if isinstance(declared, int) else tuple(declared or ())


async def check_hook(replicas: Replicas, model: str, sentinel: int) -> None:
    """Checks that each server has the logits processor, by a request that only this one refuses.

    The request names a sentinel that is not among its stop tokens.

    Raises:
        ConfigError: if a server accepts the request, or refuses it for another reason.
    """

    async def probe(client: "AsyncOpenAI") -> bool:
        request = {
            "model": model,
            "prompt": [sentinel],
            "max_tokens": 1,
            "vllm_xargs": {"rsalign_sentinel": sentinel},
        }
        from openai import BadRequestError

        try:
            await client.post("/v1/completions", cast_to=object, body=request)
        except BadRequestError as refused:
            if "rsalign_sentinel" in str(refused):
                return True
            raise
        return False

    for address, has_hook in (await replicas.ask_each(probe)).items():
        if not has_hook:
            raise ConfigError(f"segment_end=True, but {address} has no such hook: {_HOW}")


def build_hook_arguments(
    boundary: Boundary, law: Sampling, sentinel: int | None
) -> dict[str, int | float | str]:
    """The logits processor's arguments (``vllm_xargs``); empty if the boundary does not need it.

    Raises:
        ConfigError: if the boundary needs the logits processor, but the server does not have it or
            the sampling parameters change the logits that it reads.
    """
    if not boundary.engine_arguments:
        return {}
    # a server does not say which model runner it has; in v2, penalties come before the processor
    hidden = hides_the_model(law, "rsalign.hooks.v2")
    if sentinel is not None and not hidden and sentinel not in law.stop_token_ids:
        return {**boundary.engine_arguments, "rsalign_sentinel": sentinel}
    if not needs_entropy(boundary):
        return {}
    if sentinel is None:
        raise ConfigError(f"boundary={boundary!r}: entropies are known in the engine only: {_HOW}")
    raise ConfigError(
        f"boundary={boundary!r} needs the model's own entropies, which {law} hides: leave out "
        f"{HIDING} and the stop token {sentinel}, or use "
        "FixedSize or Punctuation(min_entropy=0)"
    )

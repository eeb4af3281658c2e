"""Speculative decoding in vLLM's CPU builds: what has to be mended, and where that is impossible.

Three faults of vLLM 0.28 to 0.33, all where it stands in for kernels of GPUs:

- The temperature, top-k and top-p of each request are spread over its proposed tokens into a copy
  that is thrown away, so that sampled tokens follow whatever the memory held. Their law and
  their log-probabilities are then wrong.
- A request with top-k ends the engine in a step for which nothing was proposed (the maximum of no
  numbers).
- The search for kernels, which every engine that starts in a process repeats, reads the
  ``__dict__`` of every object of every module as a dictionary. llvmlite, which n-gram speculation
  imports, has one that is none: the next engine does not start (`AttributeError`).

Engines of this process are mended. Those in another process cannot be, and are refused.
"""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any

from rsalign.core.errors import ConfigError
from rsalign.engines.vllm.environment import is_cpu_build
from rsalign.engines.vllm.release import SINCE_0_31

if TYPE_CHECKING:
    from torch import Tensor
    from vllm.config import VllmConfig


def mend_start() -> None:
    """Lets engines of a CPU build start whatever modules this process has imported."""
    if SINCE_0_31 and is_cpu_build():
        from vllm.triton_utils import dispatcher

        dispatcher.vars = read_namespace  # type: ignore[attr-defined, unused-ignore] # the built-in's


def mend_sampling(config: "VllmConfig", *, in_process: bool) -> None:
    """Lets a speculating engine of a CPU build sample from the law that a request asks for.

    Args:
        config: of the engine.
        in_process: whether its model runs in this process.

    Raises:
        ConfigError: if it runs in another one.
    """
    if config.speculative_config is None or not is_cpu_build():
        return
    if not in_process:
        raise ConfigError(
            f"the engine of {config.model_config.model} speculates (speculative_config) in a "
            "process of its own, where vLLM's CPU build samples from a wrong law: start it in this "
            "process (backend='in_process', VLLM_ENABLE_V1_MULTIPROCESSING=0), or without "
            "speculative_config"
        )
    from vllm.v1.sample import rejection_sampler

    rejection_sampler.expand_batch_to_tokens = expand_batch_to_tokens
    constrain = rejection_sampler.apply_sampling_constraints
    if not getattr(constrain, "takes_no_rows", False):
        rejection_sampler.apply_sampling_constraints = skip_without_rows(constrain)


def expand_batch_to_tokens(
    x: "Tensor",
    cu_num_tokens: "Tensor",
    num_tokens: int,
    replace_from: int = 0,
    replace_to: int = 0,
) -> "Tensor":
    """Repeats the value of each request for each of its tokens, as vLLM's kernel on GPUs does.

    Args:
        x: values, ``(batch,)``.
        cu_num_tokens: number of tokens of each request and those before it, ``(batch,)``.
        num_tokens: of all requests.
        replace_from: a value that is replaced.
        replace_to: what it is replaced by.

    Returns:
        ``(num_tokens,)``.
    """
    counts = cu_num_tokens.diff(prepend=cu_num_tokens.new_zeros(1)).long()
    values = x.masked_fill(x == replace_from, replace_to)
    return values.repeat_interleave(counts, output_size=num_tokens)


def skip_without_rows(constrain: Callable[..., "Tensor"]) -> Callable[..., "Tensor"]:
    """Returns a function that changes logits as `constrain` does, and leaves alone what is empty.

    Args:
        constrain: takes logits, ``(rows, vocab)``, and more.
    """

    @wraps(constrain)
    def skipping(logits: "Tensor", *others: Any, **named: Any) -> "Tensor":
        return constrain(logits, *others, **named) if len(logits) else logits

    skipping.takes_no_rows = True  # type: ignore[attr-defined]
    return skipping


def read_namespace(value: Any) -> Mapping[str, Any]:
    """Returns the ``__dict__`` of an object; empty where it is no dictionary.

    Objects that answer for their attributes themselves are not asked: torch's deprecated ones warn.
    """
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return found if isinstance(found, Mapping) else {}

"""vLLM's own operations on tensors, which logits processors share with its sampler."""

from torch import Tensor
from vllm.utils.torch_utils import async_tensor_h2d

__all__ = ["async_tensor_h2d", "truncate_logits"]


def truncate_logits(logits: Tensor, top_k: Tensor | None, top_p: Tensor | None) -> Tensor:
    """Excludes the tokens that top-k and top-p exclude, by the code of vLLM's sampler.

    Args:
        logits: float32, ``(rows, vocab)``; may be changed in place.
        top_k: number of tokens to keep, ``(rows,)``; None keeps all.
        top_p: probability to keep, ``(rows,)``; None keeps all.

    Returns:
        ``(rows, vocab)``, -infinity where a token is excluded.
    """
    # not with the module: it compiles kernels, which hooks without truncation do not need
    from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p

    truncated: Tensor = apply_top_k_top_p(logits, top_k, top_p)
    return truncated

"""How certain the model is of the token that it is about to draw, on tensors."""

import torch
from torch import Tensor

INITIAL_WIDTH = 32
"""Tokens of a request that the memory has room for at first."""
_IMPOSSIBLE = -float("inf")


def compute_token_statistics(logits: Tensor) -> Tensor:
    """Returns entropy and self-certainty of ``softmax(logits)``, nats.

    Self-certainty is KL(uniform || p), the mean over the vocabulary of -ln(V p) (Kang et al. 2025,
    arXiv:2502.18581, eq. 7). V counts every id that the model has a logit for: also those that the
    embedding was padded with and the tokenizer does not know, as in the model's own softmax. It
    does not count ids that the engine excluded by a logit of -infinity, over which the mean would
    be infinite.

    Args:
        logits: float32, ``(rows, vocab)``; some may be -infinity, but not all of a row.

    Returns:
        ``(rows, 2)``: entropy, at least 0; self-certainty, 0 if the law is uniform.

    Example:
        >>> round(float(compute_token_statistics(torch.zeros(1, 4))[0, 0]), 4)
        1.3863
    """
    below = logits - logits.amax(-1, keepdim=True)
    weights = below.exp()
    excluded = below == _IMPOSSIBLE
    below.masked_fill_(excluded, 0.0)  # adds nothing to either sum: its weight is 0
    num_possible = logits.shape[-1] - excluded.sum(-1)
    total = weights.sum(-1)
    log_total = total.log()
    entropy = log_total - weights.mul_(below).sum(-1) / total
    self_certainty = log_total - below.sum(-1) / num_possible - num_possible.log()
    return torch.stack((entropy, self_certainty), -1)


def record_statistics(
    logits: Tensor, rows: Tensor, slots: Tensor, drawn: Tensor, memory: Tensor
) -> None:
    """One step: stores the statistics of the next token's law; logits stay as they are.

    Args:
        logits: of the whole batch, float32, ``(batch, vocab)``.
        rows: those that the hook serves, in ascending order, ``(rows,)``.
        slots: of `memory`, for each row, ``(rows,)``.
        drawn: number of tokens drawn, ``(rows,)``. Within a prompt that is computed in parts it is
            0 or below, and the last part overwrites what the others stored.
        memory: statistics of each token's law, ``(slots, tokens, 2)``, updated.
    """
    statistics = compute_token_statistics(logits if len(rows) == len(logits) else logits[rows])
    memory[slots, drawn.clamp(0, memory.shape[1] - 1)] = statistics

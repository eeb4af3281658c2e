"""How certain the model is of the token that it is about to draw, on tensors."""

import torch
from torch import Tensor

_IMPOSSIBLE = -float("inf")


def token_statistics(logits: Tensor) -> Tensor:
    """Entropy and self-certainty of ``softmax(logits)``, nats.

    Self-certainty is KL(uniform || p), the mean over the vocabulary of -ln(V p) (Kang et al. 2025,
    arXiv:2502.18581, eq. 7). V counts every id that the model has a logit for: those that its
    tokenizer does not know, but the embedding was padded with, as in the model's own softmax; not
    those that the engine excluded by a logit of -infinity, over which the mean would be infinite.

    Args:
        logits: float32, ``(rows, vocab)``; some may be -infinity, but not all of a row.

    Returns:
        ``(rows, 2)``: entropy, at least 0; self-certainty, 0 if the law is uniform.
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
    """One step: writes down how certain the model is of the next token; logits stay as they are.

    Args:
        logits: of the whole batch, float32, ``(batch, vocab)``.
        rows: those that ask, in ascending order, ``(rows,)``.
        slots: of `memory`, ``(rows,)``.
        drawn: number of tokens drawn, ``(rows,)``. A prompt that is computed in parts is at 0 or
            below in all of them, and its last part overwrites what the others wrote.
        memory: statistics of the law of each token, ``(slots, tokens, 2)``, updated.
    """
    statistics = token_statistics(logits if len(rows) == len(logits) else logits[rows])
    memory[slots, drawn.clamp(0, memory.shape[1] - 1)] = statistics

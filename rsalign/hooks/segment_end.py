"""The rule that ends segments, on tensors: the same for both of vLLM's model runners.

Nothing here reads the device from the host. A segment ends by a *sentinel*, a stop token that
becomes certain where the rule says and impossible elsewhere. The rule sees the model's own logits,
before temperature and truncation; the tokens' law does not change, but for the sentinel's own
probability (see `choose_sentinel`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeAlias

import torch
from torch import Tensor

from rsalign.hooks.request import SegmentRequest

Device: TypeAlias = torch.device

# Certain at all of vLLM's temperatures, 0.01 to 2: no noise of a sampler bridges the
# gap, all other probabilities are 0 in float32, and nothing overflows. Filling the row with
# -infinity instead would write the whole vocabulary.
_CERTAIN = 1e30
_IMPOSSIBLE = -float("inf")
NO_TOKEN = -1


@dataclass(frozen=True, slots=True)
class Rules:
    """What rows ask for, as in `SegmentRequest`; each ``(rows,)``.

    Attributes:
        marks: row of the table of marks.
    """

    threshold: Tensor
    min_tokens: Tensor
    mark_entropy: Tensor
    mark_min_tokens: Tensor
    sentinel: Tensor
    marks: Tensor

    @classmethod
    def of(
        cls, requests: Sequence[SegmentRequest], marks: Sequence[int], device: Device
    ) -> "Rules":
        """Sent to the device in two copies, which the host does not wait for."""
        from vllm.utils.torch_utils import async_tensor_h2d

        real = [[r.threshold for r in requests], [r.mark_entropy for r in requests]]
        whole = [
            [r.min_tokens for r in requests],
            [r.mark_min_tokens for r in requests],
            [r.sentinel for r in requests],
            list(marks),
        ]
        threshold, mark_entropy = async_tensor_h2d(real, device, torch.float32)
        min_tokens, mark_min_tokens, sentinel, kinds = async_tensor_h2d(whole, device, torch.int64)
        return cls(threshold, min_tokens, mark_entropy, mark_min_tokens, sentinel, kinds)

    def select(self, rows: Tensor) -> "Rules":
        """Those of some rows, ``(selected,)``."""
        return Rules(*(getattr(self, field.name)[rows] for field in fields(self)))


def entropies(logits: Tensor) -> Tensor:
    """Entropy of ``softmax(logits)``, nats.

    A sum of terms of one sign, so that float32 loses nothing by cancellation.

    Args:
        logits: float32, ``(rows, vocab)``; some may be -infinity, but not all of a row.

    Returns:
        ``(rows,)``, at least 0.
    """
    below = logits - logits.amax(-1, keepdim=True)
    below.clamp_min_(-1e4)  # probability 0 already, and 0 * -infinity is not a number
    weights = below.exp()
    total = weights.sum(-1)
    return total.log() - weights.mul_(below).sum(-1) / total


def fires(
    entropy: Tensor, previous: Tensor, drawn: Tensor, last: Tensor, rules: Rules, marks: Tensor
) -> Tensor:
    """Whether a segment ends before the token that is about to be drawn.

    Args:
        entropy: of that token's law, ``(rows,)``.
        previous: of the law that the last token was drawn from; -infinity: not known, ``(rows,)``.
        drawn: number of tokens drawn, ``(rows,)``.
        last: the last of them, `NO_TOKEN` if there is none, ``(rows,)``.
        rules: of the rows.
        marks: whether a token contains a mark, ``(kinds, vocab + 1)``; the last column, where
            `NO_TOKEN` points, is False.

    Returns:
        Booleans, ``(rows,)``.
    """
    before = (drawn >= rules.min_tokens) & (entropy >= rules.threshold)
    after = (drawn >= rules.mark_min_tokens) & (previous >= rules.mark_entropy)
    return before | (after & marks[rules.marks, last])


def end_segments(
    logits: Tensor,
    rows: Tensor,
    slots: Tensor,
    drawn: Tensor,
    last: Tensor,
    *,
    rules: Rules,
    marks: Tensor,
    memory: Tensor,
) -> None:
    """One step: makes the sentinel certain where a segment ends, impossible elsewhere; in place.

    Args:
        logits: of the whole batch, float32, ``(batch, vocab)``.
        rows: those that ask, ``(rows,)``.
        slots: where `memory` keeps what belongs to each, ``(rows,)``.
        drawn: see `fires`. A prompt that is computed in parts is at 0 or below in all of them.
        last: see `fires`.
        rules: see `fires`.
        marks: see `fires`.
        memory: the last two entropies of each request, by the parity of `drawn`; a step that is
            done twice, because a prompt or a preempted response is computed in parts, then
            overwrites itself and not the one before it. -infinity where nothing is known.
            ``(slots, 2)``, updated.
    """
    whole = len(rows) == len(logits)  # then the order alone differs, and a copy is spared
    entropy = entropies(logits)[rows] if whole else entropies(logits[rows])
    previous = memory[slots, (drawn - 1) % 2]
    memory[slots, drawn % 2] = entropy
    fire = fires(entropy, previous, drawn, last, rules, marks)
    logits[rows, rules.sentinel] = torch.where(fire, _CERTAIN, _IMPOSSIBLE)

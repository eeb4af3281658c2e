"""The rule that ends segments, on tensors: the same for both of vLLM's model runners.

Nothing here reads the device from the host. A segment ends by a *sentinel*, a stop token that
becomes certain where the rule says and impossible elsewhere. The rule sees the model's own logits,
before temperature and truncation; the tokens' law does not change, but for the sentinel's own
probability (see `choose_sentinel`).

On a small model a step's time is spent in starting operations, so that there are few of them: what
all rows share is sent once and not once for each, and marks cost nothing where nobody asks for any.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeAlias

import torch
from torch import Tensor

from rsalign.hooks.segment_end.request import SegmentRequest

Device: TypeAlias = torch.device

# Certain at all of vLLM's temperatures, 0.01 to 2: no noise of a sampler bridges the
# gap, all other probabilities are 0 in float32, and nothing overflows. Filling the row with
# -infinity instead would write the whole vocabulary.
_CERTAIN = 1e30
_IMPOSSIBLE = -float("inf")
NO_TOKEN = -1


@dataclass(frozen=True, slots=True)
class Rules:
    """What rows ask for, as in `SegmentRequest`; each ``(rows,)``, or ``(1,)`` if all ask the same.

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
        """Sent to the device in two copies, which the host does not wait for.

        Args:
            requests: of the rows, at least one. Where all are one object it is sent once, ``(1,)``.
            marks: their rows in the table of marks.
            device: where the rows are.
        """
        from vllm.utils.torch_utils import async_tensor_h2d

        if all(request is requests[0] for request in requests):
            requests, marks = requests[:1], marks[:1]
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


@dataclass(frozen=True, slots=True)
class Seen:
    """What rows with marks have behind them.

    Attributes:
        last: the token drawn last, `NO_TOKEN` if there is none, ``(rows,)``.
        marks: whether a token contains a mark, ``(kinds, vocab + 1)``; the last column, where
            `NO_TOKEN` points, is False.
    """

    last: Tensor
    marks: Tensor


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
    return total.log().addcdiv_(weights.mul_(below).sum(-1), total, value=-1)


def fires(
    entropy: Tensor, drawn: Tensor, rules: Rules, previous: Tensor | None, seen: Seen | None
) -> Tensor:
    """Whether a segment ends before the token that is about to be drawn.

    Args:
        entropy: of that token's law, ``(rows,)``.
        drawn: number of tokens drawn, ``(rows,)``.
        rules: of the rows.
        previous: entropy of the law that the last token was drawn from; -infinity: not known,
            ``(rows,)``. None where no row asks for marks.
        seen: None where no row asks for marks.

    Returns:
        Booleans, ``(rows,)``.
    """
    before = (entropy >= rules.threshold) & (drawn >= rules.min_tokens)
    if previous is None or seen is None:
        return before
    after = (previous >= rules.mark_entropy) & (drawn >= rules.mark_min_tokens)
    return before | (after & seen.marks[rules.marks, seen.last])


def end_segments(
    logits: Tensor,
    rows: Tensor,
    slots: Tensor,
    drawn: Tensor,
    *,
    rules: Rules,
    seen: Seen | None,
    memory: Tensor,
) -> None:
    """One step: makes the sentinel certain where a segment ends, impossible elsewhere; in place.

    Args:
        logits: of the whole batch, float32, ``(batch, vocab)``.
        rows: those that ask, in ascending order, ``(rows,)``.
        slots: where `memory` keeps what belongs to each, ``(rows,)``.
        drawn: see `fires`. A prompt that is computed in parts is at 0 or below in all of them.
        rules: see `fires`.
        seen: see `fires`.
        memory: the last two entropies of each request, by the parity of `drawn`; a step that is
            done twice, because a prompt or a preempted response is computed in parts, then
            overwrites itself and not the one before it. -infinity where nothing is known.
            ``(slots, 2)``, updated.
    """
    entropy = entropies(logits if len(rows) == len(logits) else logits[rows])
    parity = drawn & 1
    previous = None if seen is None else memory[slots, 1 - parity]
    memory[slots, parity] = entropy
    fire = fires(entropy, drawn, rules, previous, seen)
    logits[rows, rules.sentinel] = torch.where(fire, *_outcomes(logits.device))


@functools.cache
def _outcomes(device: Device) -> tuple[Tensor, Tensor]:
    """Where a segment ends and where not; made once, because a step would make them each time."""
    return torch.tensor(_CERTAIN, device=device), torch.tensor(_IMPOSSIBLE, device=device)

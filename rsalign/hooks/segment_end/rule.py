"""The rule that ends segments, on tensors: the same for both of vLLM's model runners.

A segment ends by a *sentinel*: a stop token whose logit is set so that it is certain where the rule
says. Elsewhere a spare token is impossible, so that its own probability is lost (see
`choose_sentinel`); a token that responses need keeps its probability, and the report of the request
tells whether the rule or the model chose it. The rule sees the model's own logits, before
temperature and truncation. It changes nothing else of the tokens' law.

The host never waits for the device here. On a small model a step spends its time in launching
operations, so that there are few: what all rows share is sent once, not once for each, and marks
cost nothing where no request has any.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeAlias

import torch
from torch import Tensor

from rsalign.hooks.segment_end.request import SegmentRequest

Device: TypeAlias = torch.device

STATE = (2, 3)
"""The shape of what `end_segments` remembers of a request: three values, twice."""
CERTAIN = 1e30
"""The logit of a token that must be drawn.

It is certain at all of vLLM's temperatures, 0.01 to 2: no noise of a sampler bridges the gap, all
other probabilities are 0 in float32, and nothing overflows. Filling the row with -infinity instead
would write the whole vocabulary.
"""
_IMPOSSIBLE = -float("inf")
NO_TOKEN = -1


@dataclass(frozen=True, slots=True)
class Rules:
    """`SegmentRequest` of several rows; each ``(rows,)``, or ``(1,)`` if all ask for the same.

    Attributes:
        threshold: see `SegmentRequest`, as the others.
        marks: row of the table of marks.
        any_shared: whether the sentinel of any row is shared.
        any_window: whether any row has a greatest mean entropy.
    """

    threshold: Tensor
    min_tokens: Tensor
    mark_entropy: Tensor
    mark_min_tokens: Tensor
    sentinel: Tensor
    shared: Tensor
    marks: Tensor
    window: Tensor
    most_entropy: Tensor
    any_shared: bool
    any_window: bool

    @classmethod
    def send(
        cls, requests: Sequence[SegmentRequest], marks: Sequence[int], device: Device
    ) -> "Rules":
        """Sends the rules to the device in two copies, for which the host does not wait.

        Args:
            requests: of the rows, at least one. Where all are one object it is sent once, ``(1,)``.
            marks: their rows in the table of marks.
            device: where the logits are.
        """
        from rsalign.engines.vllm.tensors import async_tensor_h2d

        if all(request is requests[0] for request in requests):
            requests, marks = requests[:1], marks[:1]
        real = [
            [r.threshold for r in requests],
            [r.mark_entropy for r in requests],
            [r.most_entropy for r in requests],
        ]
        whole = [
            [r.min_tokens for r in requests],
            [r.mark_min_tokens for r in requests],
            [r.sentinel for r in requests],
            [int(r.shared) for r in requests],
            list(marks),
            [r.window for r in requests],
        ]
        threshold, mark_entropy, most_entropy = async_tensor_h2d(real, device, torch.float32)
        min_tokens, mark_min_tokens, sentinel, shared, kinds, window = async_tensor_h2d(
            whole, device, torch.int64
        )
        any_shared = any(r.shared for r in requests)
        return cls(
            threshold,
            min_tokens,
            mark_entropy,
            mark_min_tokens,
            sentinel,
            shared,
            kinds,
            window,
            most_entropy,
            any_shared,
            any(r.most_entropy < float("inf") for r in requests),
        )

    def select(self, rows: Tensor) -> "Rules":
        """Returns the rules of some rows, ``(selected,)``."""
        values = (getattr(self, field.name) for field in fields(self))
        return Rules(*(value if isinstance(value, bool) else value[rows] for value in values))


@dataclass(frozen=True, slots=True)
class LastTokens:
    """The token that each row drew last, and which tokens contain marks.

    Attributes:
        tokens: `NO_TOKEN` if there is none, ``(rows,)``.
        has_mark: whether a token contains a mark, ``(sets, vocab + 1)``; the last column, where
            `NO_TOKEN` points, is False.
    """

    tokens: Tensor
    has_mark: Tensor


def compute_entropies(logits: Tensor) -> Tensor:
    """Returns the entropy of ``softmax(logits)``, nats.

    It is a sum of terms of one sign, so that float32 loses nothing by cancellation.

    Args:
        logits: float32, ``(rows, vocab)``; some may be -infinity, but not all of a row.

    Returns:
        ``(rows,)``, at least 0.

    Example:
        >>> round(float(compute_entropies(torch.zeros(1, 4))), 4)
        1.3863
    """
    below = logits - logits.amax(-1, keepdim=True)
    below.clamp_min_(-1e4)  # probability 0 already, and 0 * -infinity is not a number
    weights = below.exp()
    total = weights.sum(-1)
    return total.log().addcdiv_(weights.mul_(below).sum(-1), total, value=-1)


def decide_ends(
    entropy: Tensor, drawn: Tensor, rules: Rules, previous: Tensor | None, last: LastTokens | None
) -> Tensor:
    """Decides for each row whether its segment ends before the token that is about to be drawn.

    Args:
        entropy: of that token's law, nats, ``(rows,)``.
        drawn: number of tokens drawn, ``(rows,)``.
        rules: of the rows.
        previous: entropy of the law that the last token was drawn from; -infinity: not known, which
            matters only where a mark needs some entropy, ``(rows,)``. None where no row asks for
            marks.
        last: None where no row asks for marks.

    Returns:
        Booleans, ``(rows,)``.
    """
    before = (entropy >= rules.threshold) & (drawn >= rules.min_tokens)
    if previous is None or last is None:
        return before
    uncertain = (previous >= rules.mark_entropy) | (rules.mark_entropy <= 0)
    after = uncertain & (drawn >= rules.mark_min_tokens)
    return before | (after & last.has_mark[rules.marks, last.tokens])


def end_segments(
    logits: Tensor,
    rows: Tensor,
    slots: Tensor,
    drawn: Tensor,
    *,
    rules: Rules,
    last: LastTokens | None,
    memory: Tensor,
) -> None:
    """One step: makes the sentinel certain where a segment ends; in place.

    Elsewhere a spare sentinel becomes impossible, and a shared one is left as it is.

    Args:
        logits: of the whole batch, float32, ``(batch, vocab)``.
        rows: those that the hook serves, in ascending order, ``(rows,)``.
        slots: of `memory`, for each row, ``(rows,)``.
        drawn: see `decide_ends`. Within a prompt that is computed in parts it is 0 or below.
        rules: see `decide_ends`.
        last: see `decide_ends`.
        memory: of the last two steps of each request, by the parity of `drawn`: the entropy,
            whether the segment ended (1 or 0), and the mean entropy; -infinity where nothing is
            known. A step that is
            repeated, because a prompt or a preempted response is computed in parts, then overwrites
            its own values and not those before it. ``(slots, 2, 3)``, updated.
    """
    entropy = compute_entropies(logits if len(rows) == len(logits) else logits[rows])
    parity = drawn & 1
    previous = None if last is None else memory[slots, 1 - parity, 0]
    ends, mean = decide_ends(entropy, drawn, rules, previous, last), entropy
    if rules.any_window:
        before = memory[slots, 1 - parity, 2]
        ends = ends | ((drawn >= rules.window) & (before > rules.most_entropy))
        mean = add_to_mean(before, entropy, drawn, rules.window)
    memory[slots, parity] = torch.stack((entropy, ends.to(entropy.dtype), mean), -1)
    certain, otherwise = _sentinel_logits(logits.device)
    if rules.any_shared:
        own = logits[rows, rules.sentinel]
        otherwise = torch.where(rules.shared > 0, own, otherwise)
    logits[rows, rules.sentinel] = torch.where(ends, certain, otherwise)


def add_to_mean(mean: Tensor, entropy: Tensor, drawn: Tensor, window: Tensor) -> Tensor:
    """Returns the mean entropy with that of the next token (`rsalign.segments.LowConfidence`).

    Args:
        mean: of the tokens drawn; -infinity: not known, so that the mean begins anew, ``(rows,)``.
        entropy: of the law of the next token, nats, ``(rows,)``.
        drawn: number of tokens drawn, ``(rows,)``.
        window: of the rows.
    """
    share = (drawn + 1).minimum(window).clamp_min(1).to(entropy.dtype)
    is_known = (drawn > 0) & (mean > _IMPOSSIBLE)
    return torch.where(is_known, mean + (entropy - mean) / share, entropy)


@functools.cache
def _sentinel_logits(device: Device) -> tuple[Tensor, Tensor]:
    """A spare sentinel's logit where a segment ends, and where not; made once for all steps."""
    return torch.tensor(CERTAIN, device=device), torch.tensor(_IMPOSSIBLE, device=device)

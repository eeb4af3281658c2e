"""The rule of arithmetic sampling, on tensors (Vilnis et al. 2023, arXiv:2210.15458).

A number in [0, 1), the *code* of a sample, decides all of its tokens: the vocabulary, in the order
of ids, divides [0, 1) into intervals as long as the tokens are probable; the code lies in one of
them, whose token is drawn, and its place within this interval is the code of the next token. Under
a uniform code a response is drawn with exactly its probability. Codes at equal distances
(`rsalign.hooks.arithmetic.request`) therefore spread the samples: of n, those whose first tokens
precede any
given text in the order of ids are as many as expected, but for less than one.

Each token takes -log2 of its probability from a code's 53 bits. A code is *spent* when fewer than
29 are left, which float32 could tell apart: by then its response has a probability of less than one
in 16 million, and no other sample of the request shares it. vLLM's own sampler, seeded for each
sample, draws what follows, so that the law stays exact to any length.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rsalign.hooks.arithmetic.request import ArithmeticRequest

_SPENT = 2.0**-24
_CERTAIN = 1e30  # as in `rsalign.hooks.segment_end.rule`

STATE = (2, 2)
"""What `Codes.choose` remembers of each request: two states of a code and a probability."""


@dataclass(frozen=True, slots=True)
class Codes:
    """What rows ask for.

    Attributes:
        codes: of the first token, float64, ``(rows,)``.
        temperature: None where nobody has any, ``(rows,)``; likewise the others.
        min_p: ``(rows,)``.
        top_k: ``(rows,)``.
        top_p: ``(rows,)``.
    """

    codes: Tensor
    temperature: Tensor | None
    min_p: Tensor | None
    top_k: Tensor | None
    top_p: Tensor | None

    @classmethod
    def of(
        cls,
        requests: Sequence[ArithmeticRequest],
        vocab_size: int,
        device: torch.device,
        *,
        tempered: bool,
    ) -> "Codes":
        """Sent to the device.

        Args:
            requests: of the rows, at least one.
            vocab_size: of the logits.
            device: where they are.
            tempered: whether vLLM has applied temperature and `min_p` by the time it asks.
        """

        def sent(values: Sequence[float], keeps: float, dtype: torch.dtype) -> Tensor | None:
            if all(value == keeps for value in values):
                return None
            return torch.tensor(values, dtype=dtype).to(device, non_blocking=True)

        kept = [min(request.top_k or vocab_size, vocab_size) for request in requests]
        single = torch.float32
        ahead = [] if tempered else requests
        return cls(
            torch.tensor([r.code for r in requests], dtype=torch.float64).to(device),
            sent([r.temperature for r in ahead], 1.0, single),
            sent([r.min_p for r in ahead], 0.0, single),
            sent(kept, vocab_size, torch.int32),
            sent([r.top_p for r in requests], 1.0, single),
        )

    def select(self, rows: Tensor) -> "Codes":
        """Those of some rows, ``(selected,)``."""
        kept = (self.temperature, self.min_p, self.top_k, self.top_p)
        return Codes(self.codes[rows], *(None if each is None else each[rows] for each in kept))

    def choose(
        self, logits: Tensor, rows: Tensor, slots: Tensor, drawn: Tensor, memory: Tensor
    ) -> None:
        """One step: makes each row's token certain, unless its code is spent; in place.

        Args:
            logits: of the whole batch, float32, ``(batch, vocab)``.
            rows: those that ask, ``(rows,)``.
            slots: where `memory` keeps what belongs to each, ``(rows,)``.
            drawn: number of tokens drawn, ``(rows,)``. A prompt that is computed in parts is at 0
                or below in all of them.
            memory: the code of the next token, and the probability of all before it, by the parity
                of `drawn`, so that a step that is done twice repeats itself. -infinity where
                nothing is known: the code is then spent. Float64, ``(slots, 2, 2)``, updated.
        """
        first, parity = drawn <= 0, drawn & 1
        code, probability = memory[slots, parity].unbind(-1)
        code = torch.where(first, self.codes, code)
        probability = torch.where(first, 1.0, probability)
        ends = self._law(logits[rows]).double().softmax(-1).cumsum(-1)
        total = ends[:, -1]
        # rounding must not take it beyond the last token that is possible
        point = torch.minimum(code * total, torch.nextafter(total, torch.zeros_like(total)))
        token = torch.searchsorted(ends, point[:, None], right=True)
        before = torch.where(token > 0, ends.gather(-1, (token - 1).clamp_min(0)), 0.0)
        length = ends.gather(-1, token) - before
        token, before, length = token[:, 0], before[:, 0], length[:, 0]
        after = ((point - before) / length, probability * length / total)
        memory[slots, 1 - parity] = torch.stack(after, -1)
        own = logits[rows, token]
        # so written that what is not a number is spent: 0 * -infinity, where nothing was known
        logits[rows, token] = torch.where(probability >= _SPENT, _CERTAIN, own)

    def _law(self, logits: Tensor) -> Tensor:
        """As vLLM's samplers shape it: temperature, `min_p`, then `top_k` and `top_p`."""
        from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p

        if self.temperature is not None:
            logits = logits / self.temperature[:, None]
        if self.min_p is not None:
            least = logits.amax(-1, keepdim=True) + self.min_p.log()[:, None]
            logits = logits.masked_fill(logits < least, -float("inf"))
        shaped: Tensor = apply_top_k_top_p(logits, self.top_k, self.top_p)
        return shaped

"""The rule of arithmetic sampling, on tensors (Vilnis et al. 2023, arXiv:2210.15458).

One number in [0, 1), the *code* of a sample, decides all of its tokens. The vocabulary, in the
order of ids, divides [0, 1) into intervals whose lengths are the tokens' probabilities. The code
lies in one of them: its token is drawn, and the code's relative place within the interval is the
code of the next token. Under a uniform code a response is drawn with exactly its probability.
Codes at equal distances (`CodeBook`) therefore spread the samples: of n samples, the number whose
first tokens precede a given text in the order of ids differs from its expectation by less than one.

Each token takes -log2 of its probability from a code's 53 bits. A code is *spent* when fewer than
29 bits are left, which is what float32 could tell apart. By then its response has a probability of
less than one in 16 million, and no other sample of the request shares it. vLLM's own sampler,
seeded for each sample, draws the tokens that follow, so that the law stays exact to any length.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rsalign.core.codes import SPENT
from rsalign.hooks.arithmetic.request import ArithmeticRequest
from rsalign.hooks.segment_end.rule import CERTAIN

STATE = (2, 2)
"""The shape of what `Codes.choose` remembers of a request: a code and a probability, twice."""


@dataclass(frozen=True, slots=True)
class Codes:
    """The codes of several rows, and what truncates their laws.

    Attributes:
        codes: of the first token, float64, ``(rows,)``.
        temperature: ``(rows,)``; None if it is 1 in all rows.
        min_p: ``(rows,)``; None if no row has any.
        top_k: ``(rows,)``; None if no row has any.
        top_p: ``(rows,)``; None if no row has any.
    """

    codes: Tensor
    temperature: Tensor | None
    min_p: Tensor | None
    top_k: Tensor | None
    top_p: Tensor | None

    @classmethod
    def send(
        cls,
        requests: Sequence[ArithmeticRequest],
        vocab_size: int,
        device: torch.device,
        *,
        tempered: bool,
    ) -> "Codes":
        """Sends what rows ask for to the device.

        Args:
            requests: of the rows, at least one.
            vocab_size: of the logits.
            device: where the logits are.
            tempered: whether vLLM applies temperature and `min_p` before it calls the hook.
        """

        def tensor(values: Sequence[float], neutral: float, dtype: torch.dtype) -> Tensor | None:
            if all(value == neutral for value in values):
                return None
            return torch.tensor(values, dtype=dtype).to(device, non_blocking=True)

        kept = [min(request.top_k or vocab_size, vocab_size) for request in requests]
        single = torch.float32
        ahead = [] if tempered else requests
        return cls(
            torch.tensor([r.code for r in requests], dtype=torch.float64).to(device),
            tensor([r.temperature for r in ahead], 1.0, single),
            tensor([r.min_p for r in ahead], 0.0, single),
            tensor(kept, vocab_size, torch.int32),
            tensor([r.top_p for r in requests], 1.0, single),
        )

    def select(self, rows: Tensor) -> "Codes":
        """Returns those of some rows, ``(selected,)``."""
        kept = (self.temperature, self.min_p, self.top_k, self.top_p)
        return Codes(self.codes[rows], *(None if each is None else each[rows] for each in kept))

    def choose(
        self, logits: Tensor, rows: Tensor, slots: Tensor, drawn: Tensor, memory: Tensor
    ) -> None:
        """One step: makes each row's token certain, unless its code is spent; in place.

        Args:
            logits: of the whole batch, float32, ``(batch, vocab)``.
            rows: those that the hook serves, ``(rows,)``.
            slots: of `memory`, for each row, ``(rows,)``.
            drawn: number of tokens drawn, ``(rows,)``. Within a prompt that is computed in parts it
                is 0 or below.
            memory: the code of the next token, and the probability of all tokens before it, by the
                parity of `drawn`, so that a step that is repeated does the same again. -infinity
                where nothing is known: the code is then spent. Float64, ``(slots, 2, 2)``, updated.
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
        logits[rows, token] = torch.where(probability >= SPENT, CERTAIN, own)

    def _law(self, logits: Tensor) -> Tensor:
        """The logits as vLLM's samplers shape them: temperature, `min_p`, `top_k` and `top_p`."""
        from rsalign.engines.vllm.tensors import truncate_logits

        if self.temperature is not None:
            logits = logits / self.temperature[:, None]
        if self.min_p is not None:
            least = logits.amax(-1, keepdim=True) + self.min_p.log()[:, None]
            logits = logits.masked_fill(logits < least, -float("inf"))
        return truncate_logits(logits, self.top_k, self.top_p)

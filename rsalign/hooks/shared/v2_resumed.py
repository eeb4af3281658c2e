"""Finds what a hook remembered of a preempted request, by the request's tokens.

vLLM's second model runner gives a preempted request another slot when it brings it back, and does
not say that it is the same request. What a hook remembers is a function of what was asked and of
the tokens so far: a request that comes back has a prompt and drawn tokens, which are compared with
those of requests that have left their slots, by a digest of 64 bits. Everything stays on the
device, and costs a few operations when a request leaves a slot or comes back, none in a step.

Adapters are not compared: of two preempted requests with the same tokens under different adapters,
one may get the values of the other.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rsalign.hooks.shared.memory import UNKNOWN

_FACTOR = 0x2545F4914F6CDD1D  # odd, so that its powers do not vanish modulo 2^64


class LeftRequests:
    """The latest requests that have left their slots, as many as there are slots.

    Args:
        states: vLLM's, of all requests.
        shape: of the values of one request.
        dtype: of the values.
    """

    def __init__(self, states: Any, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self._states = states
        num, device = states.max_num_reqs, states.device
        self._digests = torch.zeros(num, 2, dtype=torch.int64, device=device)
        self._values = torch.full((num, *shape), UNKNOWN, dtype=dtype, device=device)
        self._powers = torch.empty(0, dtype=torch.int64, device=device)
        self._num_left = 0

    def add(self, slot: int, identity: int, values: Tensor) -> None:
        """Notes a request that leaves its slot, before vLLM writes the next one's tokens there.

        Args:
            slot: that it had.
            identity: of what it asked for, and of the length of its prompt.
            values: that a hook remembers of it.
        """
        index = self._num_left % len(self._digests)
        self._num_left += 1
        self._digests[index] = self._digest([slot], [identity])[0]
        self._values[index] = values

    def find(
        self,
        slots: Sequence[int],
        identities: Sequence[int],
        *,
        others: Sequence[int],
        identities_of_others: Sequence[int],
        values: Tensor,
    ) -> Tensor:
        """Returns the values of requests that have come back, `UNKNOWN` where there are none.

        Args:
            slots: that they have now, at least one.
            identities: see `add`.
            others: slots whose requests may have left them, too, with nobody there since.
            identities_of_others: of these.
            values: of all slots.

        Returns:
            ``(slots, *shape)``.
        """
        longest = 1 + int(self._states.prefill_len.np[list(slots)].max())
        wanted = self._digest(slots, identities, longest)[:, 0]
        known, remembered = self._digests, self._values
        if others:
            known = torch.cat((known, self._digest(others, identities_of_others, longest)))
            remembered = torch.cat((remembered, values[list(others)]))
        same = (wanted[:, None, None] == known).any(-1)
        found = remembered[same.int().argmax(-1)]
        none = ~same.any(-1)
        found[none] = UNKNOWN
        return found

    def _digest(
        self, slots: Sequence[int], identities: Sequence[int], longest: int | None = None
    ) -> Tensor:
        """Digests of all tokens of each slot, and of all but the last, ``(slots, 2)``.

        The last token may be one that vLLM has drawn ahead, and dropped when it preempted the
        request.
        """
        rows = self._states.all_token_ids.gpu[list(slots), :longest].long() + 1
        lengths = self._states.total_len.gpu[list(slots)].long()
        if len(self._powers) < rows.shape[-1]:
            self._powers = torch.full_like(rows[0], _FACTOR).cumprod(-1)
        terms = rows * self._powers[: rows.shape[-1]]
        places = torch.arange(rows.shape[-1], device=rows.device)
        own = torch.tensor(identities, dtype=torch.int64).to(rows.device, non_blocking=True)
        ends = torch.stack((lengths, lengths - 1), -1)
        kept = torch.where(places < ends[:, :, None], terms[:, None, :], 0)
        return kept.sum(-1) + own[:, None]

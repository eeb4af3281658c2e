"""Finds what a hook remembered of a preempted request, by the request's tokens.

vLLM's second model runner gives a preempted request another slot when it brings it back, and does
not say that it is the same request. What a hook remembers is a function of what was asked and of
the tokens so far: a request that comes back has a prompt and drawn tokens, which are compared with
those of requests that have left their slots, by a digest of 64 bits. Everything stays on the
device, and costs a few operations when a request leaves a slot or comes back, none in a step.

Adapters are not compared: of two preempted requests with the same tokens under different adapters,
one may get the values of the other.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rsalign.engines.vllm.tensors import async_tensor_h2d
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
            identity: of what it asked for, and of the length of its prompt; 64 bits.
            values: that a hook remembers of it.
        """
        index = self._num_left % len(self._digests)
        self._num_left += 1
        tokens, lengths = self._states.all_token_ids.gpu, self._states.total_len.gpu
        digest = self._digest(tokens[slot : slot + 1], lengths[slot : slot + 1])
        self._digests[index] = digest[0] + identity
        self._values[index] = values

    def restore(
        self, values: Tensor, resumed: Mapping[int, int], others: Mapping[int, int]
    ) -> None:
        """Writes what is remembered of requests that have come back; `UNKNOWN` where nothing is.

        Args:
            values: of all slots, updated.
            resumed: the identities of requests that have come back, by the slots that they have
                now; at least one.
            others: those of requests that may have left their slots, too, with nobody there since.
        """
        longest = 1 + int(self._states.prefill_len.np[list(resumed)].max())
        slots, wanted = self._of(resumed, longest)
        known, remembered = self._digests, self._values
        if others:
            places, digests = self._of(others, longest)
            known = torch.cat((known, digests))
            remembered = torch.cat((remembered, values[places]))
        same = (wanted[:, :1, None] == known).any(-1)
        found = remembered[same.int().argmax(-1)]
        known_one = same.any(-1).view(-1, *(1 for _ in found.shape[1:]))
        values[slots] = torch.where(known_one, found, UNKNOWN)

    def _of(self, identities: Mapping[int, int], longest: int) -> tuple[Tensor, Tensor]:
        """Slots on the device, and the digests of their requests."""
        own = [list(identities), list(identities.values())]
        slots, identity = async_tensor_h2d(own, self._states.device, torch.int64)
        tokens = self._states.all_token_ids.gpu[slots, :longest]
        digests = self._digest(tokens, self._states.total_len.gpu[slots])
        return slots, digests + identity[:, None]

    def _digest(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Digests of all tokens of each row, and of all but the last, ``(rows, 2)``.

        The last token may be one that vLLM has drawn ahead, and dropped when it preempted the
        request.

        Args:
            tokens: ``(rows, tokens)``.
            lengths: number of tokens of each row that count, ``(rows,)``.
        """
        width = tokens.shape[-1]
        if len(self._powers) < width:
            self._powers = torch.full_like(tokens[0], _FACTOR, dtype=torch.int64).cumprod(-1)
        terms = (tokens.long() + 1) * self._powers[:width]
        ends = torch.stack((lengths, lengths - 1), -1)
        places = torch.arange(width, device=tokens.device)
        return torch.where(places < ends[:, :, None], terms[:, None, :], 0).sum(-1)

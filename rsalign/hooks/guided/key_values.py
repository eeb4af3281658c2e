"""Keys and values of requests of different lengths, for models of `transformers`."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin


class KeyValues(Cache):  # type: ignore[misc] # mypy does not follow transformers
    """A cache with a place for each request; `address` names the places of the next forward pass.

    A model that is given its mask and positions asks nothing of a cache but `update`.

    Args:
        num_layers: of the model.
    """

    def __init__(self, num_layers: int) -> None:
        super().__init__(layers=[_Layer() for _ in range(num_layers)])

    def address(self, places: Sequence[int], positions: Tensor, length: int) -> None:
        """Names the places and positions of the next forward pass.

        Args:
            places: of its rows, ``(rows,)``.
            positions: of its tokens, ``(rows, tokens)``.
            length: number of keys that each row sees; the mask hides those that are not its past.
        """
        chosen = torch.tensor(places, device=positions.device)
        for layer in self.layers:
            layer.places, layer.positions, layer.length = chosen, positions, length
            layer.num_places = max(places) + 1

    def copy(self, source: int, target: int, length: int) -> None:
        """Copies the first `length` keys and values of one place to another."""
        for layer in self.layers:
            layer.copy(source, target, length)


class _Layer(CacheLayerMixin):  # type: ignore[misc] # mypy does not follow transformers
    """One layer, ``(places, heads, positions, size)``; either direction doubles when full."""

    places: Tensor
    positions: Tensor
    length: int
    num_places: int

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Creates empty tensors when the first forward pass tells their shape."""
        _, heads, _, size = key_states.shape
        self.keys = key_states.new_zeros(0, heads, 0, size)
        self.values = value_states.new_zeros(0, heads, 0, value_states.shape[-1])
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Stores the new tokens' and returns all of the rows', ``(rows, heads, length, size)``.

        Args:
            key_states: ``(rows, heads, tokens, size)``.
            value_states: likewise.
            args: not used by layers with full attention.
            kwargs: likewise.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self._reserve(self.num_places, self.length)
        for kept, new in ((self.keys, key_states), (self.values, value_states)):
            kept[self.places[:, None], :, self.positions] = new.transpose(1, 2)
        return self.keys[self.places, :, : self.length], self.values[self.places, :, : self.length]

    def copy(self, source: int, target: int, length: int) -> None:
        """See `KeyValues.copy`."""
        self._reserve(target + 1, length)
        for kept in (self.keys, self.values):
            kept[target, :, :length] = kept[source, :, :length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Returns length and offset of the keys."""
        return self.length, 0

    def get_seq_length(self) -> int:
        """Returns the number of keys before this forward pass, in the longest row."""
        return int(self.length - self.positions.shape[1])

    def get_max_length(self) -> int:
        """Returns -1: there is no limit."""
        return -1

    def _reserve(self, num_places: int, length: int) -> None:
        places, _, room, _ = self.keys.shape
        if num_places <= places and length <= room:
            return
        places = places if num_places <= places else max(num_places, 2 * places)
        room = room if length <= room else max(length, 2 * room)
        # zeros: what the mask hides still enters a product, and must be a number
        for name in ("keys", "values"):
            old: Tensor = getattr(self, name)
            new = old.new_zeros(places, old.shape[1], room, old.shape[3])
            new[: old.shape[0], :, : old.shape[2]] = old
            setattr(self, name, new)

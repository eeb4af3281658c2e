"""A prefix cache with blocks of another size than the engine's, simulated from its requests."""

from collections.abc import Sequence


class SimulatedCache:
    """Remembers whole blocks of sequences, as the prefix cache of vLLM's does, without a limit.

    Args:
        block_size: in tokens.

    Example:
        >>> cache = SimulatedCache(2)
        >>> cache.keep([1, 2, 3, 4, 5])
        >>> cache.count_cached([1, 2, 3, 4]), cache.count_cached([1, 2, 3, 4, 9])
        (2, 4)
    """

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self._known: set[tuple[int, ...]] = set()

    def count_cached(self, tokens: Sequence[int]) -> int:
        """The number of first tokens that need not be computed; always less than all."""
        size = self.block_size
        for end in range(size, len(tokens), size):
            if tuple(tokens[:end]) not in self._known:
                return end - size
        return (len(tokens) - 1) // size * size

    def keep(self, tokens: Sequence[int]) -> None:
        """Remembers the whole blocks of a sequence that was computed."""
        for end in range(self.block_size, len(tokens) + 1, self.block_size):
            self._known.add(tuple(tokens[:end]))

    def clear(self) -> None:
        """Forgets everything."""
        self._known.clear()

"""Numbers that carry what came with them; arithmetic on them gives plain floats."""

from collections.abc import Mapping
from typing import Any


class Ranked(float):
    """A token's log-probability that knows its place in the law.

    Attributes:
        rank: 1 is the most probable token, which greedy decoding takes.
    """

    __slots__ = ("rank",)

    rank: int

    def __new__(cls, value: float, *, rank: int) -> "Ranked":
        """A float with its place."""
        ranked = super().__new__(cls, value)
        ranked.rank = rank
        return ranked


class Listed(float):
    """A drawn token's log-probability that knows those of other tokens at its place.

    Attributes:
        others: what the engine listed at this place, by token id: vLLM's `Logprob` objects, the
            drawn token's own among them.
    """

    __slots__ = ("others",)

    others: Mapping[int, Any]

    def __new__(cls, value: float, *, others: Mapping[int, Any]) -> "Listed":
        """A float with its neighbours."""
        listed = super().__new__(cls, value)
        listed.others = others
        return listed


class Scored(float):
    """A reward that knows what it cost.

    Attributes:
        tokens: tokens that the reward model was given.
        cached_tokens: how many of them its prefix cache had.
    """

    __slots__ = ("cached_tokens", "tokens")

    tokens: int
    cached_tokens: int

    def __new__(cls, value: float, *, tokens: int = 0, cached_tokens: int = 0) -> "Scored":
        """A float with its cost."""
        scored = super().__new__(cls, value)
        scored.tokens = tokens
        scored.cached_tokens = cached_tokens
        return scored

"""The most probable tokens at each place of a greedy continuation: an ability of policies."""

from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from rsalign.core.errors import ConfigError
from rsalign.core.protocols import Policy, innermost
from rsalign.core.types import Segment, Tokens

Listed: TypeAlias = tuple[tuple[int, float], ...]
"""Tokens with ln of their probability (nats), the most probable first, ``(tokens, 2)``."""


@dataclass(frozen=True, slots=True)
class GreedySegment:
    """A greedy continuation, and what else was probable at each of its tokens.

    Probabilities are those of the model's own law: temperature 1, no truncation, after what
    excludes tokens.

    Attributes:
        segment: the continuation; its log-probabilities are those of the model's law.
        listed: for each token the most probable ones, the drawn one included, ``(tokens,)``.
        eos: the tokens that end a response.

    Example:
        >>> import asyncio
        >>> from rsalign.testing import ToyPolicy
        >>> drawn = asyncio.run(ToyPolicy().most_probable((1,), max_new_tokens=1, num=2))
        >>> drawn.segment.tokens[0] == drawn.listed[0][0][0], len(drawn.listed[0])
        (True, 2)
    """

    segment: Segment
    listed: tuple[Listed, ...]
    eos: Tokens


@runtime_checkable
class ListsTokens(Protocol):
    """A policy that can list the most probable tokens while it decodes greedily."""

    async def most_probable(
        self, prefix: Tokens, *, max_new_tokens: int, num: int
    ) -> GreedySegment:
        """Continues a prefix by its most probable tokens.

        Args:
            prefix: the prompt and the kept tokens of a response.
            max_new_tokens: greatest number of new tokens, at least 1.
            num: number of tokens to list at each place, at least 1.

        Raises:
            ConfigError: as `Policy.extend`; also if the engine does not list so many.
        """
        ...


def require_listing(policy: Policy) -> ListsTokens:
    """Returns the policy if it can list the most probable tokens.

    Raises:
        ConfigError: if it cannot; it is named.
    """
    if isinstance(policy, ListsTokens):
        return policy
    raise ConfigError(
        f"{type(innermost(policy)).__name__} cannot list the most probable tokens, which this "
        "strategy needs: use VllmPolicy with an engine of its own"
    )

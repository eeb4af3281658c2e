"""Asks a policy, before any work is done, whether it can end segments where a strategy wants it."""

from collections.abc import Iterator
from typing import Any, Protocol, TypeGuard, runtime_checkable

from rsalign.core.nesting import setting_names, walk_strategies
from rsalign.core.protocols import Boundary


@runtime_checkable
class PlacesEnds(Protocol):
    """A boundary that depends on where in prompt and answer its segment begins."""

    def begin_after(self, num_tokens: int) -> Boundary:
        """The rule of a segment that begins after so many tokens of prompt and answer."""
        ...


def place_boundary(boundary: Boundary | None, num_tokens: int) -> Boundary | None:
    """The rule of a segment that begins after so many tokens of prompt and answer.

    Example:
        >>> from rsalign import Blocks, FixedSize
        >>> place_boundary(Blocks(4, min_tokens=1), 6), place_boundary(FixedSize(4), 6)
        (FixedSize(n=3), FixedSize(n=4))
    """
    return boundary.begin_after(num_tokens) if isinstance(boundary, PlacesEnds) else boundary


@runtime_checkable
class EndsSegments(Protocol):
    """A policy that knows without drawing whether it can follow a boundary."""

    def check_boundary(self, boundary: Boundary) -> str:
        """Returns how segments end, for people.

        Raises:
            ConfigError: if the policy cannot follow the boundary exactly.
        """
        ...


def check_boundaries(strategy: Any, policy: Any) -> tuple[str, ...]:
    """Refuses a strategy whose segments cannot end in this policy.

    Args:
        strategy: its boundaries, and those of the strategies inside it, are its settings.
        policy: that will draw. One that is no `EndsSegments` is not asked.

    Returns:
        How the segments of each boundary end, for people.

    Raises:
        ConfigError: if the policy cannot follow a boundary exactly.

    Example:
        >>> from rsalign import Cards, FixedSize
        >>> from rsalign.testing import ToyPolicy
        >>> check_boundaries(Cards(segmenter=FixedSize(4)), ToyPolicy())
        ()
    """
    if not isinstance(policy, EndsSegments):
        return ()
    settings: Iterator[Any] = (
        getattr(each, name, None)
        for each in walk_strategies(strategy)
        for name in setting_names(each)
    )
    return tuple(policy.check_boundary(value) for value in settings if _is_boundary(value))


def _is_boundary(value: Any) -> TypeGuard[Boundary]:
    return not isinstance(value, type) and all(
        hasattr(value, name) for name in ("max_tokens", "engine_arguments", "ends_before")
    )

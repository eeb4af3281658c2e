"""A part of a sequence that grows, without a copy."""

from collections.abc import Sequence
from typing import TypeVar, overload

from typing_extensions import override

T_co = TypeVar("T_co", covariant=True)


class RangeView(Sequence[T_co]):
    """The items from `first` up to, not including, `end` of a sequence.

    A copy for each step of a chain would cost the square of the number of steps.

    Args:
        items: of which it shows a part.
        first: at most `end`.
        end: at most the length of `items`.

    Example:
        >>> view = RangeView("abcdef", 1, 4)
        >>> len(view), view[0], view[-1], list(view[1:])
        (3, 'b', 'd', ['c', 'd'])
    """

    def __init__(self, items: Sequence[T_co], first: int, end: int) -> None:
        self._items = items
        self._range = range(first, end)

    @override
    def __len__(self) -> int:
        return len(self._range)

    @overload
    def __getitem__(self, index: int) -> T_co: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[T_co]: ...

    @override
    def __getitem__(self, index: int | slice) -> T_co | Sequence[T_co]:
        if isinstance(index, slice):
            return [self._items[i] for i in self._range[index]]
        return self._items[self._range[index]]

"""How vLLM's first model runner tells a logits processor who is in its batch."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality

if TYPE_CHECKING:
    from vllm import SamplingParams

T = TypeVar("T")


class Rows(Generic[T]):
    """What belongs to which row of the batch.

    Args:
        enter: what belongs to a new row, given its parameters, its prompt (None if there are only
            embeddings) and the list that its drawn tokens are appended to; None if nothing does.
        leave: told what belonged to a row that is gone: ended, or preempted for a while.

    Attributes:
        at: by row.
    """

    def __init__(
        self,
        enter: Callable[["SamplingParams", list[int] | None, list[int]], T | None],
        leave: Callable[[T], None],
    ) -> None:
        self.at: dict[int, T] = {}
        self._enter = enter
        self._leave = leave

    def follow(self, update: BatchUpdate | None) -> None:
        """Removed, added, moved, in this order."""
        if update is None:
            return
        for row in update.removed:
            self._drop(row)
        for row, params, prompt, drawn in update.added:
            self._drop(row)
            new = self._enter(params, prompt, drawn)
            if new is not None:
                self.at[row] = new
        for one, other, direction in update.moved:
            moved, replaced = self.at.pop(one, None), self.at.pop(other, None)
            if moved is not None:
                self.at[other] = moved
            if replaced is not None and direction == MoveDirectionality.SWAP:
                self.at[one] = replaced
            elif replaced is not None:
                self._leave(replaced)

    def _drop(self, row: int) -> None:
        gone = self.at.pop(row, None)
        if gone is not None:
            self._leave(gone)

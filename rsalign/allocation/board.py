"""Board: shares a total number of draws among the prompts of one call, round by round."""

import asyncio
import heapq
import math
from collections import Counter
from dataclasses import dataclass, field, replace

from rsalign.allocation.rules import AllocationRule, Drawn
from rsalign.core.checks import quote
from rsalign.core.errors import ConfigError, StrategyError


@dataclass(slots=True)
class Board:
    """Grants draws to prompts, whose numbers are their places in the call.

    A round ends when every prompt that was granted draws has reported what it drew. Only then does
    the rule decide on the next `batch` draws. Which prompt is faster therefore changes nothing, and
    the rule sees exactly the draws that were made and paid for.

    The first round grants `at_least` draws to each prompt. In all, exactly `total` draws are
    granted, unless every prompt has left.

    Attributes:
        rule: says which prompt draws next.
        total: number of draws.
        places: number of prompts.
        at_least: draws of each prompt in the first round.
        batch: draws of each later round.

    Raises:
        ConfigError: if `total` is too small for the first round.

    Example:
        >>> from rsalign.allocation.rules import Uniform
        >>> async def ask():
        ...     board = Board(Uniform(), total=3, places=2, at_least=1, batch=1)
        ...     async def prompt(place):
        ...         num_draws = 0
        ...         while granted := await board.more(place, Drawn((), (0.0,) * num_draws)):
        ...             num_draws += granted
        ...         return num_draws
        ...     return await asyncio.gather(prompt(0), prompt(1))
        >>> asyncio.run(ask())
        [2, 1]
    """

    rule: AllocationRule
    total: int
    places: int
    at_least: int
    batch: int
    _drawn: dict[int, Drawn] = field(default_factory=dict)
    _busy: set[int] = field(default_factory=set)
    _waiting: dict[int, asyncio.Future[int]] = field(default_factory=dict)
    _left: int = field(init=False)
    _started: bool = False

    def __post_init__(self) -> None:
        self._left = self.total
        self._busy = set(range(self.places))
        if self.total < self.places * self.at_least:
            raise ConfigError(
                f"total={self.total} draws for {self.places} prompts with at_least="
                f"{self.at_least} each: give a total of at least {self.places * self.at_least}"
            )

    async def more(self, place: int, drawn: Drawn) -> int:
        """Reports what a prompt has drawn, and waits for its next grant; 0: there is no more.

        Args:
            place: of the prompt.
            drawn: all of its draws so far.
        """
        self._drawn[place] = drawn
        self._busy.discard(place)
        granted: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[place] = granted
        self._end_round()
        return await granted

    def leave(self, place: int) -> None:
        """A prompt has ended, for whatever reason, and asks for no more draws."""
        self._busy.discard(place)
        self._drawn.pop(place, None)
        if (future := self._waiting.pop(place, None)) is not None:
            future.cancel()
        self._end_round()

    def _end_round(self) -> None:
        if self._busy or not self._waiting:
            return
        try:
            grants = self._grants()
        except Exception as failure:  # noqa: BLE001 - raised by every prompt that waits
            for future in self._waiting.values():
                future.set_exception(failure)
            self._waiting.clear()
            return
        self._left -= sum(grants.values())
        for place in list(self._waiting):
            if place in grants or not grants:
                self._waiting.pop(place).set_result(grants.get(place, 0))
        self._busy |= grants.keys()

    def _grants(self) -> Counter[int]:
        """The draws of the next round by place; empty if none is left."""
        grants: Counter[int] = Counter()
        if not self._started:
            self._started = True
            grants.update(dict.fromkeys(sorted(self._drawn), self.at_least))
            return grants
        queue = [(-self._urgency(drawn), place) for place, drawn in self._drawn.items()]
        heapq.heapify(queue)  # of equal urgency the first place
        for _ in range(min(self.batch, self._left)):
            _, place = queue[0]
            grants[place] += 1
            drawn = replace(self._drawn[place], promised=grants[place])
            heapq.heapreplace(queue, (-self._urgency(drawn), place))
        return grants

    def _urgency(self, drawn: Drawn) -> float:
        urgency = self.rule.urgency(drawn)
        if not isinstance(urgency, float | int) or math.isnan(urgency):
            raise StrategyError(
                f"{type(self.rule).__name__}.urgency returned {quote(urgency)}: mend it, so that "
                "it returns a number"
            )
        return float(urgency)

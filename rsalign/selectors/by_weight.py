"""ByWeight: a draw in proportion to the weights that the candidates come with.

Law      candidate i with probability weight_i / sum of weights; without weights each candidate with
         the same probability, which is one draw of the law that they were drawn from.
Cost     none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rsalign.core.key import Key
from rsalign.core.types import Candidate, Prompt
from rsalign.selectors.protocol import Selection


@dataclass(frozen=True, slots=True, kw_only=True)
class ByWeight:
    """Draws a candidate by its weight (`WeighingSelector`), whatever its reward.

    Example:
        >>> import asyncio
        >>> from rsalign.testing import example_pool
        >>> selection = asyncio.run(ByWeight().select(*example_pool(0.0, 1.0), weights=(3.0, 1.0)))
        >>> selection.probs
        (0.75, 0.25)
    """

    weighs: ClassVar[bool] = True
    needs_reward: ClassVar[bool] = False

    async def select(
        self,
        prompt: Prompt,
        candidates: Sequence[Candidate],
        key: Key,
        *,
        weights: Sequence[float] | None = None,
    ) -> Selection:
        """Makes one draw among the candidates."""
        weights = weights or (1.0,) * len(candidates)
        total = math.fsum(weights)
        probs = tuple(weight / total for weight in weights)
        return Selection(key.categorical(probs), probs)

"""Last: the last candidate.

Law      the last. Of the states of a Markov chain it is the one nearest to the chain's stationary
         law; of independent draws it is one draw.
Cost     none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rsalign.core.capabilities import LAST
from rsalign.core.key import Key
from rsalign.core.types import Candidate, Prompt
from rsalign.selectors.protocol import Selection, certain


@dataclass(frozen=True, slots=True, kw_only=True)
class Last:
    """The last candidate, whatever its reward."""

    needs_reward: ClassVar[bool] = False
    picks: ClassVar[str] = LAST

    async def select(self, prompt: Prompt, candidates: Sequence[Candidate], key: Key) -> Selection:
        """Draws nothing."""
        return certain(len(candidates) - 1, len(candidates))

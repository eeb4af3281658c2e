"""Hard: the highest reward.

Law      the candidate with the highest reward; among equals the first.
         KL(law || policy) <= ln n - (n - 1) / n (note ``kl_formula``).
Paper    Stiennon et al. 2020, arXiv:2009.01325; Beirami et al. 2024, arXiv:2401.01879.
Cost     none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rsalign.core.capabilities import HIGHEST_REWARD
from rsalign.core.key import Key
from rsalign.core.types import Candidate, Prompt
from rsalign.selectors.estimators import best_of_kl
from rsalign.selectors.protocol import Selection, certain
from rsalign.selectors.selection import best


@dataclass(frozen=True, slots=True, kw_only=True)
class Hard:
    """The candidate with the highest reward, the first among equals; weights change nothing."""

    weighs: ClassVar[bool] = True
    picks: ClassVar[str] = HIGHEST_REWARD

    async def select(
        self,
        prompt: Prompt,
        candidates: Sequence[Candidate],
        key: Key,
        *,
        weights: Sequence[float] | None = None,
    ) -> Selection:
        """Draws nothing."""
        n = len(candidates)
        chosen = best([candidate.reward for candidate in candidates])
        return certain(chosen, n, {"kl_formula": best_of_kl(n)})

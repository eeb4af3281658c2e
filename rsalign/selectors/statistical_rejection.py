"""StatisticalRejection: rejection sampling within a pool, under the pool's own highest reward.

Law      candidates are tested in order, i with probability exp((r_i - max r) / beta); the first
         accepted is chosen. Given the pool, candidate i has
             a_i prod over j < i of (1 - a_j),   a_i = exp((r_i - max r) / beta),
         which sums to 1, for the highest is accepted for certain. The bound is estimated, so that
         after n draws from pi the law is the tilted pi exp(r / beta) / Z only as n grows; with an
         empty tail beyond the estimate it would be exact (`rsalign.strategies.Rejection` has a
         declared bound).
Paper    RSO, Liu et al. 2023, arXiv:2309.06657.
Departs  one response is chosen, not a set of them; the rewards are compared in the order in which
         the candidates were numbered, which is as good as at random.
Cost     none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rsalign.core.checks import POSITIVE_REWARD, check_settings
from rsalign.core.key import Key
from rsalign.core.types import Candidate, Prompt
from rsalign.selectors.protocol import Selection


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticalRejection:
    """The first candidate that passes a test against the highest reward of the pool.

    Attributes:
        beta: divides the reward, in its units; towards 0 it is `Hard`.

    Raises:
        ConfigError: if `beta` is not a finite number above 0.
    """

    beta: float

    def __post_init__(self) -> None:
        check_settings(self, beta=POSITIVE_REWARD)

    async def select(self, prompt: Prompt, candidates: Sequence[Candidate], key: Key) -> Selection:
        """One draw."""
        highest = max(candidate.reward for candidate in candidates)
        probs, left = [], 1.0
        for candidate in candidates:
            accept = math.exp((candidate.reward - highest) / self.beta)
            probs.append(left * accept)
            left *= 1 - accept
        return Selection(key.categorical(probs), tuple(probs))

"""TopFraction: a uniform draw among the best part.

Law      each of the k = ceil(n / m) candidates with the highest rewards with probability 1 / k;
         of equal rewards the first seen counts as higher. After n draws from pi the density with
         respect to pi at reward rank u is (n / k) P(Binomial(n - 1, 1 - u) < k), at most n / k;
         so KL(law || pi) <= ln(n / k) <= ln m (note ``kl_formula``).
Paper    E_m-regularised best-of-N, arXiv:2603.05739.
Cost     none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rsalign.core.checks import at_least, check_settings
from rsalign.core.key import Key
from rsalign.core.types import Candidate, Prompt
from rsalign.selectors.estimators import top_kl
from rsalign.selectors.protocol import Selection


@dataclass(frozen=True, slots=True, kw_only=True)
class TopFraction:
    """One of the best ceil(n / `m`) candidates, each with the same probability.

    Unlike the highest reward alone it does not lean on the reward ever more as n grows.

    Attributes:
        m: greatest ratio of the law to the policy, at least 1; 1 is a draw from the policy, n and
            more is `Hard`.

    Raises:
        ConfigError: if `m` is not a finite number of at least 1.
    """

    m: float

    def __post_init__(self) -> None:
        check_settings(self, m=at_least(1.0, note="the choice is among the best ceil(n / m)"))

    async def select(self, prompt: Prompt, candidates: Sequence[Candidate], key: Key) -> Selection:
        """One draw."""
        n = len(candidates)
        kept = math.ceil(n / self.m)
        # sorted is stable: of equal rewards the first seen comes first
        order = sorted(range(n), key=lambda i: -candidates[i].reward)
        top = frozenset(order[:kept])
        probs = tuple(1 / kept if i in top else 0.0 for i in range(n))
        notes = {"num_top": kept, "kl_formula": top_kl(n, kept)}
        return Selection(order[key.below(kept)], probs, notes)

"""Selectors that look at the rewards of the candidates alone, or only at their positions.

r_i is the reward of candidate i of n, pi the law of one draw.

`Hard`, the highest reward:
Law      the candidate with the highest reward; of equal rewards the first.
         KL(law || pi) <= ln n - (n - 1) / n (note ``kl_formula``).
Paper    Stiennon et al. 2020, arXiv:2009.01325; Beirami et al. 2024, arXiv:2401.01879.

`Soft`, a draw in proportion to exp(reward / temperature T):
Law      candidate i with probability exp(r_i / T) / sum_j exp(r_j / T). After n draws from pi:
         P(y) = n pi(y) E[w(y) / (w(y) + w(y_2) + ... + w(y_n))] with w = exp(r / T), which tends
         to pi_T = pi w / Z as n grows. KL(pi_T || law) <= ln(1 + chi2(pi_T || pi) / n).
Paper    Verdun et al. 2025, arXiv:2505.03156; the bound follows by Jensen's inequality.

`TopFraction`, a uniform draw among the best:
Law      each of the k = ceil(n / m) candidates with the highest rewards with probability 1 / k;
         of equal rewards the first seen counts as higher. After n draws from pi the density with
         respect to pi at reward rank u is (n / k) P(Binomial(n - 1, 1 - u) < k), at most n / k.
         Therefore KL(law || pi) <= ln(n / k) <= ln m (note ``kl_formula``).
Paper    E_m-regularised best-of-N, arXiv:2603.05739.

`StatisticalRejection`, rejection sampling within a pool, bounded by the pool's highest reward:
Law      candidates are tested in order; the first that is accepted is chosen. Candidate i has
             probability a_i prod over j < i of (1 - a_j), where a_i = exp((r_i - max r) / beta).
         These sum to 1, because the highest reward is accepted with certainty. The bound is an
         estimate, so that after n draws from pi the law tends to the tilted policy
         pi exp(r / beta) / Z only as n grows. `rsalign.strategies.rejection.Rejection` has a
         declared bound and is exact.
Paper    RSO, Liu et al. 2023, arXiv:2309.06657.
Departs  One response is chosen, not a set of them. Candidates are tested in the order of their
         numbers, which is exchangeable.

`Last`, the last candidate:
Law      the last. Of the states of a Markov chain this is the one nearest to the chain's stationary
         law; of independent draws it is one draw.

Cost     None of them asks a model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rsalign.core.capabilities import HIGHEST_REWARD, LAST
from rsalign.core.checks import POSITIVE_REWARD, at_least, check_settings
from rsalign.core.key import Key
from rsalign.core.types import Candidate, Prompt
from rsalign.selectors.estimators import best_of_kl, tilted_weights, top_kl
from rsalign.selectors.protocol import Selection, certain

KL_FORMULA = "KL(law || inner draw) if no two rewards are equal, nats"
"""What the note ``kl_formula`` means."""


def index_of_highest(rewards: Sequence[float]) -> int:
    """Index of the highest reward; of equal ones the first.

    Args:
        rewards: ``(candidates,)``, at least one.
    """
    return max(range(len(rewards)), key=rewards.__getitem__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hard:
    """Chooses the candidate with the highest reward, the first of equal ones.

    It can be given weights (`WeighingSelector`), which change nothing.

    Example:
        >>> import asyncio
        >>> from rsalign.testing import example_pool
        >>> asyncio.run(Hard().select(*example_pool(0.5, 2.0, 1.0))).index
        1
    """

    weighs: ClassVar[bool] = True
    picks: ClassVar[str] = HIGHEST_REWARD
    note_meanings: ClassVar[dict[str, str]] = {"kl_formula": KL_FORMULA}

    async def select(
        self,
        prompt: Prompt,
        candidates: Sequence[Candidate],
        key: Key,
        *,
        weights: Sequence[float] | None = None,
    ) -> Selection:
        """Chooses the highest reward; no randomness."""
        n = len(candidates)
        chosen = index_of_highest([candidate.reward for candidate in candidates])
        return certain(chosen, n, {"kl_formula": best_of_kl(n)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Soft:
    """Draws a candidate with probability in proportion to exp(reward / `temperature`).

    Attributes:
        temperature: in the reward's units, above 0. Towards 0 it is `Hard`, towards infinity a draw
            from the policy.

    Raises:
        ConfigError: if `temperature` is not a finite number above 0.

    Example:
        >>> import asyncio
        >>> from rsalign.testing import example_pool
        >>> selection = asyncio.run(Soft(temperature=0.5).select(*example_pool(0.0, 0.0)))
        >>> selection.probs
        (0.5, 0.5)
    """

    temperature: float

    def __post_init__(self) -> None:
        check_settings(self, temperature=POSITIVE_REWARD)

    async def select(self, prompt: Prompt, candidates: Sequence[Candidate], key: Key) -> Selection:
        """Makes one draw among the candidates."""
        probs = tilted_weights([candidate.reward for candidate in candidates], self.temperature)
        return Selection(key.categorical(probs), probs)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopFraction:
    """Draws one of the best ceil(n / `m`) candidates, each with the same probability.

    Unlike `Hard` it does not depend more and more on the reward as n grows.

    Attributes:
        m: greatest ratio of the law to the policy, at least 1. At 1 it is a draw from the policy,
            at n and above it is `Hard`.

    Raises:
        ConfigError: if `m` is not a finite number of at least 1.

    Example:
        >>> import asyncio
        >>> from rsalign.testing import example_pool
        >>> asyncio.run(TopFraction(m=2).select(*example_pool(3.0, 1.0, 0.0, 2.0))).probs
        (0.5, 0.0, 0.0, 0.5)
    """

    m: float

    note_meanings: ClassVar[dict[str, str]] = {"kl_formula": KL_FORMULA}

    def __post_init__(self) -> None:
        check_settings(self, m=at_least(1.0, note="the choice is among the best ceil(n / m)"))

    async def select(self, prompt: Prompt, candidates: Sequence[Candidate], key: Key) -> Selection:
        """Makes one draw among the best candidates."""
        n = len(candidates)
        kept = math.ceil(n / self.m)
        # sorted is stable: of equal rewards the first seen comes first
        order = sorted(range(n), key=lambda i: -candidates[i].reward)
        top = frozenset(order[:kept])
        probs = tuple(1 / kept if i in top else 0.0 for i in range(n))
        notes = {"num_top": kept, "kl_formula": top_kl(n, kept)}
        return Selection(order[key.below(kept)], probs, notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticalRejection:
    """Chooses the first candidate that passes a test against the highest reward of the pool.

    Attributes:
        beta: divides the reward, in its units, above 0. Towards 0 it is `Hard`.

    Raises:
        ConfigError: if `beta` is not a finite number above 0.

    Example:
        >>> import asyncio
        >>> from rsalign.testing import example_pool
        >>> asyncio.run(StatisticalRejection(beta=0.1).select(*example_pool(1.0, 1.0))).index
        0
    """

    beta: float

    def __post_init__(self) -> None:
        check_settings(self, beta=POSITIVE_REWARD)

    async def select(self, prompt: Prompt, candidates: Sequence[Candidate], key: Key) -> Selection:
        """Draws, with one random number, which candidate is the first to be accepted."""
        highest = max(candidate.reward for candidate in candidates)
        probs, left = [], 1.0
        for candidate in candidates:
            accept = math.exp((candidate.reward - highest) / self.beta)
            probs.append(left * accept)
            left *= 1 - accept
        return Selection(key.categorical(probs), tuple(probs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Last:
    """Chooses the last candidate, whatever its reward.

    Example:
        >>> import asyncio
        >>> from rsalign.testing import example_pool
        >>> asyncio.run(Last().select(*example_pool(2.0, 1.0))).index
        1
    """

    needs_reward: ClassVar[bool] = False
    picks: ClassVar[str] = LAST

    async def select(self, prompt: Prompt, candidates: Sequence[Candidate], key: Key) -> Selection:
        """Chooses the last candidate; no randomness."""
        return certain(len(candidates) - 1, len(candidates))

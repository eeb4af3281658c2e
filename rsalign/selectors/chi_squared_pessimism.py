"""ChiSquaredPessimism: rejection sampling from the chi-squared-regularised law.

Law      Of n candidates the first m = floor(n / 2) only set the threshold lambda, at which
         mean(relu((r_i - lambda) / beta)) = 1. The others are fresh draws and are tested in order:
         candidate i is accepted with probability min(1, w_i / M), where w = relu((r - lambda) /
         beta) and M = (R_max - lambda) / beta. If none is accepted, the last candidate is returned;
         it is not tested. As n grows the law tends to pi(y) w(y), which gives no mass to responses
         below lambda, provided that R_max bounds the reward.
Paper    Huang et al. 2025, arXiv:2503.21878 (InferenceTimePessimism with N = m; n = 2 m + 1).
Departs  A pool of even size has one fresh draw fewer. R_max may be estimated.
Cost     none beyond the pool, half of which is spent on lambda.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rsalign.core.checks import POSITIVE_REWARD, Allowed, check_settings
from rsalign.core.key import Key
from rsalign.core.types import Candidate, Prompt
from rsalign.selectors.estimators import chi_squared_depth
from rsalign.selectors.protocol import Selection


@dataclass(frozen=True, slots=True, kw_only=True)
class ChiSquaredPessimism:
    """Chooses the first fresh candidate that is accepted; it resists overrated rare responses.

    Notes: ``threshold`` (lambda); ``normaliser`` (M); ``accept_probs`` of all fresh candidates but
    the last; ``fell_back``, whether none was accepted; ``num_clipped``, rewards above R_max.

    Attributes:
        beta: strength of the regularisation, in the reward's units, above 0. Towards infinity the
            law is the policy's.
        reward_max: R_max, a bound of the reward; higher rewards count as R_max. None takes the
            highest of the first m rewards: an estimate, which later ones may exceed.

    Raises:
        ConfigError: if `beta` is not a finite number above 0, or `reward_max` not finite.

    Example:
        >>> import asyncio
        >>> from rsalign.testing import example_pool
        >>> selector = ChiSquaredPessimism(beta=1.0)
        >>> selection = asyncio.run(selector.select(*example_pool(0.0, 1.0, 2.0, 0.5, 1.5)))
        >>> selection.notes["threshold"]
        -0.5
    """

    beta: float
    reward_max: float | None = None

    note_meanings: ClassVar[dict[str, str]] = {
        "threshold": "rewards below it have no mass",
        "normaliser": "greatest weight, R_max included",
        "accept_probs": "of the fresh candidates but the last",
        "fell_back": "no fresh candidate was accepted",
        "num_clipped": "rewards above the bound",
    }

    def __post_init__(self) -> None:
        bound = Allowed(note="no reward may exceed it, and None is the highest of the first half")
        check_settings(self, beta=POSITIVE_REWARD, reward_max=bound)

    async def select(self, prompt: Prompt, candidates: Sequence[Candidate], key: Key) -> Selection:
        """Tests the fresh candidates in order, each with one draw, until one is accepted."""
        n = len(candidates)
        num_first = n // 2
        rewards = [candidate.reward for candidate in candidates]
        if num_first == 0:  # a single candidate: nothing to estimate from, and nothing to reject
            return Selection(0, (1.0,), {"fell_back": True})
        depth = chi_squared_depth(rewards[:num_first], self.beta)
        top = max(rewards[:num_first])
        highest = top if self.reward_max is None else self.reward_max
        # r - lambda, where lambda is `depth` below `top`: nothing is lost if beta is tiny
        greatest = highest - top + depth
        accept_probs = tuple(
            _accept_prob(reward - top + depth, greatest) for reward in rewards[num_first : n - 1]
        )
        chosen = n - 1
        for i, prob in enumerate(accept_probs, start=num_first):
            if key.child("accept", i).bernoulli(prob):
                chosen = i
                break
        return Selection(
            chosen,
            (0.0,) * num_first + _first_accepted(accept_probs),
            {
                "threshold": top - depth,
                "normaliser": greatest / self.beta,
                "accept_probs": accept_probs,
                "fell_back": chosen == n - 1,
                "num_clipped": sum(reward > highest for reward in rewards[num_first : n - 1]),
            },
        )


def _accept_prob(above: float, greatest: float) -> float:
    """min(1, relu(r - lambda) / (R_max - lambda)); 1 above lambda if the bound is below it."""
    if above <= 0:
        return 0.0
    return 1.0 if above >= greatest else above / greatest


def _first_accepted(accept_probs: Sequence[float]) -> tuple[float, ...]:
    """Probability of each being the first that is accepted, and of none, ``(probs + 1,)``."""
    open_, first = 1.0, []
    for prob in accept_probs:
        first.append(open_ * prob)
        open_ *= 1 - prob
    return (*first, open_)

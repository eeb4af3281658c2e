"""MinimumBayesRisk: the candidate that agrees most with the others.

Law      the candidate with the greatest expected utility sum_j w_j U(y_i, y_j) over the pool,
         itself included; of equal ones the one with the highest reward, then the first. The weights
         w are equal (the references are draws of the policy) or in proportion to exp(r / T) (they
         then stand for the tilted policy pi(y) exp(r(y) / T)).
Paper    Suzgun et al. 2022, arXiv:2211.07634. With `ExactMatch` it is a majority vote.
Departs  The weights are exp(r / T), never raw rewards, which can be negative.
Cost     n^2 utilities and no model; those of `rsalign.selectors.utilities` are one product of
         matrices.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rsalign.core.checks import POSITIVE_REWARD, check_settings, part
from rsalign.core.key import Key
from rsalign.core.types import Candidate, Prompt
from rsalign.selectors.estimators import effective_sample_size, tilted_weights
from rsalign.selectors.protocol import Selection, certain
from rsalign.selectors.utilities import Utility, expected_utilities


@dataclass(frozen=True, slots=True, kw_only=True)
class MinimumBayesRisk:
    """Chooses the candidate with the greatest expected utility, if any candidate may be right.

    Attributes:
        utility: a function ``(candidate, reference) -> float`` of texts, such as those of
            `rsalign.selectors.utilities`.
        temperature: weighs references by exp(reward / temperature), in the reward's units. None
            gives all the same weight, and no reward is needed.

    Raises:
        ConfigError: if `utility` cannot be called, or `temperature` is neither None nor finite
            and above 0.

    Example:
        >>> import asyncio
        >>> from rsalign import UnigramF1
        >>> from rsalign.testing import example_pool
        >>> pool = example_pool(0.0, 0.0, 0.0, texts=("a dog", "the cat sat", "the cat"))
        >>> asyncio.run(MinimumBayesRisk(utility=UnigramF1()).select(*pool)).index
        1
    """

    utility: Utility
    temperature: float | None = None

    averages: ClassVar[bool] = True
    weighs: ClassVar[bool] = True
    note_meanings: ClassVar[dict[str, str]] = {
        "expected_utilities": "of the candidates",
        "effective_sample_size": "independent draws that the weights are worth",
    }

    @property
    def needs_reward(self) -> bool:
        """Whether `temperature` is given: rewards only weigh the references."""
        return self.temperature is not None

    def __post_init__(self) -> None:
        utility = part(
            "a utility, such as Rouge1() of rsalign.selectors.utilities, or a function "
            "(candidate, reference) -> float"
        )
        check_settings(self, utility=utility, temperature=POSITIVE_REWARD)

    async def select(
        self,
        prompt: Prompt,
        candidates: Sequence[Candidate],
        key: Key,
        *,
        weights: Sequence[float] | None = None,
    ) -> Selection:
        """Compares all candidates with each other; no randomness."""
        n = len(candidates)
        rewards = [candidate.reward for candidate in candidates]
        given = (1.0,) * n if weights is None else weights
        if self.temperature is not None:
            tilted = tilted_weights(rewards, self.temperature)
            given = [tilt * weight for tilt, weight in zip(tilted, given, strict=True)]
        total = math.fsum(given)
        shares = [weight / total for weight in given]
        texts = [candidate.response.text for candidate in candidates]
        expected = expected_utilities(self.utility, texts, shares)
        chosen = max(range(n), key=lambda i: (expected[i], rewards[i]))
        return certain(
            chosen,
            n,
            {
                "expected_utilities": expected,
                "effective_sample_size": effective_sample_size(shares),
            },
        )

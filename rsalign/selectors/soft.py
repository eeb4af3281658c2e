"""Soft: a draw in proportion to exp(reward / temperature).

Law      candidate i with probability exp(r_i / T) / sum_j exp(r_j / T). After n draws from pi:
         P(y) = n pi(y) E[w(y) / (w(y) + w(y_2) + ... + w(y_n))] with w = exp(r / T), which tends
         to pi_T = pi w / Z. KL(pi_T || law) <= ln(1 + chi2(pi_T || pi) / n).
Paper    Verdun et al. 2025, arXiv:2505.03156; the bound by Jensen's inequality on the above.
Cost     none.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rsalign.core.checks import POSITIVE_REWARD, check_settings
from rsalign.core.key import Key
from rsalign.core.types import Candidate, Prompt
from rsalign.selectors.estimators import tilted_weights
from rsalign.selectors.protocol import Selection


@dataclass(frozen=True, slots=True, kw_only=True)
class Soft:
    """A candidate with probability in proportion to exp(reward / `temperature`).

    Attributes:
        temperature: of the choice, in the reward's units; towards 0 it is `Hard`, towards
            infinity a draw from the policy.

    Raises:
        ConfigError: if `temperature` is not a finite number above 0.
    """

    temperature: float

    def __post_init__(self) -> None:
        check_settings(self, temperature=POSITIVE_REWARD)

    async def select(self, prompt: Prompt, candidates: Sequence[Candidate], key: Key) -> Selection:
        """One draw."""
        probs = tilted_weights([candidate.reward for candidate in candidates], self.temperature)
        return Selection(key.categorical(probs), probs)

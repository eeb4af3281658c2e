"""SelfCertainty: a vote in which the policy's more certain answers count for more.

Law      the candidates are ranked by the mean of their tokens' self-certainty, KL(uniform || law)
         of the model's own law (`rsalign.core.types.Certainty`), the most certain first and the
         first
         seen before its equals. The candidate of rank k = 0 .. n - 1 has (n - k)^power votes for
         its answer, and the answer with most votes wins; ties, abstaining and the candidate that
         represents it: see `rsalign.selectors.ballot`. Power 0 is `MajorityVote`; towards infinity
         it is the most certain candidate that has an answer.
Paper    Kang et al. 2025, arXiv:2502.18581 (Borda voting, p = `power`; they tune it to n, from 0.3
         for n = 8 to 1.2 for n = 64).
Departs  a reward decides ties and picks the representative, where there is one.
Cost     none beyond the measurement, which the engine makes as it draws.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rsalign.core.checks import at_least, check_settings
from rsalign.core.errors import ConfigError
from rsalign.core.key import Key
from rsalign.core.types import Candidate, Prompt
from rsalign.selectors.ballot import ballot
from rsalign.selectors.extraction import EXTRACTOR, Extract
from rsalign.selectors.protocol import Selection, certain


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfCertainty:
    """The answer with the greatest sum of (n - rank)^`power`, ranked by self-certainty.

    Notes: ``self_certainties``, the mean of each candidate's tokens, nats; and those of a vote.

    Attributes:
        extract: what of a text is its answer (see `rsalign.selectors.extraction`). With `WholeText`
            different texts never agree, and the most certain candidate is the answer.
        power: of the votes, at least 0.

    Raises:
        ConfigError: if `extract` cannot be called, or `power` is not finite and at least 0; in
            `select`, if a response has no certainty.
    """

    extract: Extract
    power: float = 0.5

    needs_reward: ClassVar[bool] = False
    needs_certainty: ClassVar[bool] = True

    def __post_init__(self) -> None:
        power = at_least(0.0, note="0 is the plain majority")
        check_settings(self, extract=EXTRACTOR, power=power)

    async def select(self, prompt: Prompt, candidates: Sequence[Candidate], key: Key) -> Selection:
        """Draws nothing."""
        n = len(candidates)
        means = [_mean_self_certainty(candidate) for candidate in candidates]
        # sorted is stable: of equally certain ones the first seen comes first
        ranked = sorted(range(n), key=lambda i: -means[i])
        weights = [0.0] * n
        for rank, i in enumerate(ranked):
            weights[i] = (
                (n - rank) / n
            ) ** self.power  # only ratios count, and this never overflows
        votes = ballot(candidates, self.extract, weights)
        chosen = votes.elect()
        return certain(chosen, n, votes.notes(chosen) | {"self_certainties": tuple(means)})


def _mean_self_certainty(candidate: Candidate) -> float:
    certainty = candidate.response.certainty
    if certainty is None or not certainty.self_certainties:
        raise ConfigError(
            f"SelfCertainty: it is not known how certain the policy was of "
            f"{candidate.response.text!r}: choose among the draws of "
            "BestOf(select=SelfCertainty(...)) with Plain inside, from a policy that can tell "
            "(VllmPolicy), or take MajorityVote"
        )
    return math.fsum(certainty.self_certainties) / len(certainty.self_certainties)

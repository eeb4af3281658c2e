"""SelfCertainty: a vote in which answers that the policy was certain of count for more.

Law      Candidates are ranked by the mean self-certainty of their tokens, KL(uniform || q) where q
         is the model's own distribution of the token (`rsalign.core.types.Certainty`); the most
         certain first, of equal ones the first seen. The candidate of rank k = 0 .. n - 1 has
         (n - k)^power votes for its answer, and the answer with most votes wins. For ties,
         candidates without an answer and the candidate that represents the winner see
         `rsalign.selectors.ballot`. Power 0 is `MajorityVote`; towards infinity it chooses the most
         certain candidate that has an answer.
Paper    Kang et al. 2025, arXiv:2502.18581 (Borda voting, p = `power`; they tune it to n, from 0.3
         for n = 8 to 1.2 for n = 64).
Departs  A reward, if there is one, decides ties and which candidate represents the answer.
Cost     none beyond the measurement, which the engine makes while it draws.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rsalign.core.checks import at_least, check_settings
from rsalign.core.errors import ConfigError
from rsalign.core.key import Key
from rsalign.core.types import Candidate, Prompt
from rsalign.selectors.ballot import BALLOT_NOTES, ballot
from rsalign.selectors.extraction import EXTRACTOR, Extract
from rsalign.selectors.protocol import Selection, certain


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfCertainty:
    """Chooses the answer with the greatest sum of (n - rank)^`power`, ranked by self-certainty.

    Notes: ``self_certainties``, the mean over the tokens of each candidate, nats; and those of a
    vote.

    Attributes:
        extract: from a text to its answer (see `rsalign.selectors.extraction`). With `WholeText`
            different texts never agree, and the most certain candidate is chosen.
        power: exponent of the votes, at least 0.

    Raises:
        ConfigError: if `extract` cannot be called, or `power` is not finite and at least 0; in
            `select`, if a response has no certainty.

    Example:
        >>> from rsalign import Aligner, BestOf, WholeText
        >>> from rsalign.testing import ToyPolicy
        >>> strategy = BestOf(n=3, select=SelfCertainty(extract=WholeText()))
        >>> with Aligner(ToyPolicy(), None, strategy) as aligner:
        ...     [output] = aligner.generate("1 2", use_tqdm=False)
        >>> len(output.alignment.diagnostics["self_certainties"])
        3
    """

    extract: Extract
    power: float = 0.5

    averages: ClassVar[bool] = True
    needs_reward: ClassVar[bool] = False
    needs_certainty: ClassVar[bool] = True
    note_meanings: ClassVar[dict[str, str]] = BALLOT_NOTES | {
        "self_certainties": "of the candidates, mean over tokens, nats"
    }

    def __post_init__(self) -> None:
        power = at_least(0.0, note="0 is the plain majority")
        check_settings(self, extract=EXTRACTOR, power=power)

    async def select(self, prompt: Prompt, candidates: Sequence[Candidate], key: Key) -> Selection:
        """Counts the votes, weighted by rank; no randomness."""
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

"""Counting votes for answers: what all selectors that vote have in common.

- A candidate without an answer (None) casts no vote, but its weight stays in the total that shares
  refer to. Only if no candidate has an answer, "no answer" is elected.
- The answer with the greatest weight wins; of equal weights the one with the highest total reward;
  of these the one that was seen first.
- The candidate with the highest reward among those that give the winning answer represents it, the
  first of equal ones (so simply the first candidate if there are no rewards).
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rsalign.core.trace import Note
from rsalign.core.types import Candidate
from rsalign.selectors.estimators import effective_sample_size
from rsalign.selectors.extraction import Extract, extracted

Ties: TypeAlias = Literal["reward", "first"]
"""What decides between answers of equal weight. ``"reward"``: the highest total reward, then the
answer that was seen first. ``"first"``: the answer that was seen first."""

BALLOT_NOTES = {
    "effective_sample_size": "independent draws that the weights are worth",
}
"""What the notes of a vote mean (`rsalign.core.capabilities.note_meanings`)."""


@dataclass(frozen=True, slots=True)
class Ballot:
    """The votes of one pool.

    Attributes:
        answers: the answer that each candidate votes for; None if it has none, ``(candidates,)``.
        weights: the weight of each vote, not negative, ``(candidates,)``.
        rewards: of the candidates, ``(candidates,)``.

    Example:
        >>> Ballot(("3", "4", "4"), (1.0, 1.0, 1.0), (9.0, 1.0, 2.0)).elect()
        2
    """

    answers: tuple[str | None, ...]
    weights: tuple[float, ...]
    rewards: tuple[float, ...]

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of the total weight that the answer of each candidate has, ``(candidates,)``.

        It is 0 for a candidate without an answer.
        """
        total = math.fsum(self.weights)
        voters: defaultdict[str | None, list[float]] = defaultdict(list)
        for answer, weight in zip(self.answers, self.weights, strict=True):
            voters[answer].append(weight)
        share = {answer: math.fsum(weights) / total for answer, weights in voters.items()}
        return tuple(0.0 if answer is None else share[answer] for answer in self.answers)

    def elect(self, ties: Ties = "reward") -> int:
        """The index of the candidate that represents the winning answer."""
        voters: defaultdict[str | None, list[int]] = defaultdict(list)
        for i, answer in enumerate(self.answers):
            voters[answer].append(i)
        if len(voters) > 1:
            voters.pop(None, None)

        # a power of two, which rounds nothing: the sum of the greatest floats is then finite
        scale = 0.5 ** len(self.rewards).bit_length()

        def standing(members: list[int]) -> tuple[float, float]:
            weight = math.fsum(self.weights[i] for i in members)
            reward = math.fsum(self.rewards[i] * scale for i in members)
            return weight, reward if ties == "reward" else 0.0

        # answers are in the order they were seen, and max() takes the first among equals
        winners = max(voters.values(), key=standing)
        return max(winners, key=self.rewards.__getitem__)

    def notes(self, chosen: int) -> dict[str, Note]:
        """The diagnostics of the election.

        They are ``answers``, those of all candidates; ``vote_shares``, the share that the answer of
        each candidate has; ``answer``, the one that won; and ``effective_sample_size`` of the
        weights.
        """
        return {
            "answers": self.answers,
            "vote_shares": self.shares,
            "answer": self.answers[chosen],
            "effective_sample_size": effective_sample_size(self.weights),
        }


def ballot(
    candidates: Sequence[Candidate], extract: Extract, weights: Sequence[float] | None = None
) -> Ballot:
    """The votes of `candidates`; each has weight 1 if `weights` is None."""
    return Ballot(
        tuple(extracted(extract, candidate.response.text) for candidate in candidates),
        (1.0,) * len(candidates) if weights is None else tuple(weights),
        tuple(candidate.reward for candidate in candidates),
    )

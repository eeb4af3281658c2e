"""Counting votes for answers: the pure part of every selector that votes.

Abstaining: a candidate without an answer (None) has no vote that counts, but its weight stays in
the total that shares refer to. Only where no candidate has an answer, "none" is elected.
Ties: the greatest weight wins; of equal weights the highest total reward; of these the answer that
was seen first. The answer is represented by its candidate with the highest reward, the first among
equals (so simply by its first where nothing was rewarded).
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
"""What decides between answers of equal weight: the highest total reward, then the first seen; or
the first seen at once."""


@dataclass(frozen=True, slots=True)
class Ballot:
    """The votes of one pool.

    Attributes:
        answers: what each candidate votes for, ``(candidates,)``.
        weights: of its vote, non-negative, ``(candidates,)``.
        rewards: ``(candidates,)``.
    """

    answers: tuple[str | None, ...]
    weights: tuple[float, ...]
    rewards: tuple[float, ...]

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of all weight that votes like each candidate, ``(candidates,)``; 0 without one."""
        total = math.fsum(self.weights)
        voters: defaultdict[str | None, list[float]] = defaultdict(list)
        for answer, weight in zip(self.answers, self.weights, strict=True):
            voters[answer].append(weight)
        share = {answer: math.fsum(weights) / total for answer, weights in voters.items()}
        return tuple(0.0 if answer is None else share[answer] for answer in self.answers)

    def elect(self, ties: Ties = "reward") -> int:
        """Index of the candidate that represents the winning answer."""
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
        """What the election rests on.

        ``answers`` of the candidates and the ``vote_shares`` of these; the ``answer`` that won;
        ``effective_sample_size``.
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
    """The votes of `candidates`; of equal weight if there are no `weights`."""
    return Ballot(
        tuple(extracted(extract, candidate.response.text) for candidate in candidates),
        (1.0,) * len(candidates) if weights is None else tuple(weights),
        tuple(candidate.reward for candidate in candidates),
    )

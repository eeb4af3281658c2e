"""Votes: the answer that most candidates give, where each vote has a weight.

Law      the answer with the greatest total weight. `rsalign.selectors.ballot` says how ties are
         broken, what a candidate without an answer does, and which candidate represents the winning
         answer. For many draws from pi it tends to the answer of greatest probability under pi
         (`MajorityVote`), under the tilted policy pi(y) exp(r(y) / T) (`RewardWeightedVote`, whose
         weights are self-normalised importance weights), or of greatest expected confidence
         (`ConfidenceWeightedVote`).
         `BestOfMajority` chooses the candidate with the highest reward (the first of equal ones)
         among those whose answer has at least `share` of all n candidates; if there is none, among
         those with the most frequent answer.
Paper    Wang et al. 2022, arXiv:2203.11171 (self-consistency; also weighted by length-normalised
         probability); Li et al. 2022, arXiv:2206.02336 (weighted by a verifier);
         `BestOfMajority`: Di et al. 2025, arXiv:2510.03199 (one answer is returned: k = 1).
Departs  A reward, if there is one, decides ties and which candidate represents the answer. The
         paper of `BestOfMajority` leaves open what happens if no answer is frequent enough.
Cost     none. A response that was cut at its greatest length votes like any other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rsalign.core.checks import POSITIVE_REWARD, above, check_settings
from rsalign.core.errors import ConfigError
from rsalign.core.key import Key
from rsalign.core.types import Candidate, Prompt
from rsalign.selectors.ballot import BALLOT_NOTES, Ties, ballot
from rsalign.selectors.estimators import tilted_weights
from rsalign.selectors.extraction import EXTRACTOR, Extract
from rsalign.selectors.protocol import Selection, certain


@dataclass(frozen=True, slots=True, kw_only=True)
class MajorityVote:
    """Chooses the answer that most candidates give.

    Attributes:
        extract: from a text to its answer (see `rsalign.selectors.extraction`).
        ties: how equal numbers of votes are decided. ``"reward"``: by the highest total reward,
            then the answer that was seen first. ``"first"``: the answer that was seen first.

    Raises:
        ConfigError: if `extract` cannot be called, or there is no such rule for ties.

    Example:
        >>> import asyncio
        >>> from rsalign import LastNumber
        >>> from rsalign.testing import example_pool
        >>> pool = example_pool(9.0, 1.0, 2.0, texts=("so 3", "4", "it is 4"))
        >>> asyncio.run(MajorityVote(extract=LastNumber()).select(*pool)).notes["answer"]
        '4'
    """

    extract: Extract
    ties: Ties = "reward"

    averages: ClassVar[bool] = True
    needs_reward: ClassVar[bool] = False
    weighs: ClassVar[bool] = True
    note_meanings: ClassVar[dict[str, str]] = BALLOT_NOTES

    def __post_init__(self) -> None:
        check_settings(self, extract=EXTRACTOR)

    async def select(
        self,
        prompt: Prompt,
        candidates: Sequence[Candidate],
        key: Key,
        *,
        weights: Sequence[float] | None = None,
    ) -> Selection:
        """Counts the votes; no randomness."""
        votes = ballot(candidates, self.extract, weights)
        chosen = votes.elect(self.ties)
        return certain(chosen, len(candidates), votes.notes(chosen))


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardWeightedVote:
    """Chooses the answer with the greatest sum of exp(reward / `temperature`).

    The weights are normalised to sum to 1: adding a constant to all rewards changes nothing, and a
    negative reward is a small vote, not a vote against. Raw rewards are never used as weights.

    Attributes:
        extract: from a text to its answer (see `rsalign.selectors.extraction`).
        temperature: of the weights, in the reward's units, above 0. Towards 0 it is `Hard` among
            candidates with an answer, towards infinity `MajorityVote`.

    Raises:
        ConfigError: if `extract` cannot be called, or `temperature` is not finite and above 0.

    Example:
        >>> import asyncio
        >>> from rsalign import LastNumber
        >>> from rsalign.testing import example_pool
        >>> vote = RewardWeightedVote(extract=LastNumber(), temperature=1.0)
        >>> pool = example_pool(9.0, 1.0, 2.0, texts=("so 3", "4", "it is 4"))
        >>> asyncio.run(vote.select(*pool)).notes["answer"]
        '3'
    """

    extract: Extract
    temperature: float

    averages: ClassVar[bool] = True
    weighs: ClassVar[bool] = True
    note_meanings: ClassVar[dict[str, str]] = BALLOT_NOTES

    def __post_init__(self) -> None:
        check_settings(self, extract=EXTRACTOR, temperature=POSITIVE_REWARD)

    async def select(
        self,
        prompt: Prompt,
        candidates: Sequence[Candidate],
        key: Key,
        *,
        weights: Sequence[float] | None = None,
    ) -> Selection:
        """Counts the weighted votes; no randomness."""
        rewards = [candidate.reward for candidate in candidates]
        tilted = tilted_weights(rewards, self.temperature)
        if weights is not None:
            tilted = tuple(tilt * weight for tilt, weight in zip(tilted, weights, strict=True))
        votes = ballot(candidates, self.extract, tilted)
        chosen = votes.elect()
        return certain(chosen, len(candidates), votes.notes(chosen))


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceWeightedVote:
    """Chooses the answer with the greatest sum of exp(mean log-probability of the tokens).

    Attributes:
        extract: from a text to its answer (see `rsalign.selectors.extraction`).

    Raises:
        ConfigError: if `extract` cannot be called; in `select`, if a response has no
            log-probabilities.

    Example:
        >>> import asyncio
        >>> from rsalign import LastNumber
        >>> from rsalign.testing import example_pool
        >>> pool = example_pool(0.0, 0.0, 0.0, texts=("so 3", "4", "it is 4"))
        >>> asyncio.run(ConfidenceWeightedVote(extract=LastNumber()).select(*pool)).notes["answer"]
        '4'
    """

    extract: Extract

    needs_reward: ClassVar[bool] = False
    note_meanings: ClassVar[dict[str, str]] = BALLOT_NOTES

    def __post_init__(self) -> None:
        check_settings(self, extract=EXTRACTOR)

    async def select(self, prompt: Prompt, candidates: Sequence[Candidate], key: Key) -> Selection:
        """Counts the votes, weighted by confidence; no randomness."""
        votes = ballot(candidates, self.extract, [_confidence(c) for c in candidates])
        chosen = votes.elect()
        return certain(chosen, len(candidates), votes.notes(chosen))


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOfMajority:
    """Chooses the highest reward among answers that at least `share` of the candidates give.

    More draws do not make it worse: a rare answer that the reward is wrong about is left out.

    Attributes:
        extract: from a text to its answer (see `rsalign.selectors.extraction`).
        share: of all candidates, those without an answer included; above 0 and at most 1.

    Raises:
        ConfigError: if `extract` cannot be called, or `share` is not in (0, 1].

    Example:
        >>> import asyncio
        >>> from rsalign import LastNumber
        >>> from rsalign.testing import example_pool
        >>> pool = example_pool(9.0, 1.0, 2.0, texts=("so 3", "4", "it is 4"))
        >>> asyncio.run(BestOfMajority(extract=LastNumber(), share=0.5).select(*pool)).index
        2
    """

    extract: Extract
    share: float

    note_meanings: ClassVar[dict[str, str]] = BALLOT_NOTES | {
        "num_frequent": "candidates whose answer is frequent enough"
    }

    def __post_init__(self) -> None:
        share = above(0.0, 1.0, note="it is the share of the candidates that an answer must have")
        check_settings(self, extract=EXTRACTOR, share=share)

    async def select(self, prompt: Prompt, candidates: Sequence[Candidate], key: Key) -> Selection:
        """Chooses among the candidates with frequent answers; no randomness."""
        votes = ballot(candidates, self.extract)
        frequent = [i for i, share in enumerate(votes.shares) if share >= self.share]
        chosen = max(frequent, key=votes.rewards.__getitem__) if frequent else votes.elect()
        notes = votes.notes(chosen) | {"num_frequent": len(frequent)}
        return certain(chosen, len(candidates), notes)


def _confidence(candidate: Candidate) -> float:
    log_probs = candidate.response.log_probs
    if log_probs is None:
        raise ConfigError(
            "ConfidenceWeightedVote: a response has no log-probabilities; give a policy that tells "
            "them (an engine started with logprobs_mode='processed_logprobs'), or take MajorityVote"
        )
    return math.exp(math.fsum(log_probs) / max(1, len(log_probs)))

"""Votes: the answer that most candidates give, each vote of some weight.

Law      the answer with the greatest total weight; ties, abstaining and the candidate that
         represents it: see `rsalign.selectors.ballot`. After n draws from pi, and for n large, it
         is the answer of greatest probability under pi (`MajorityVote`), under the tilted law
         pi(y) exp(r(y) / T) (`RewardWeightedVote`: its weights are self-normalised importance
         weights), or of greatest expected confidence (`ConfidenceWeightedVote`).
Paper    Wang et al. 2022, arXiv:2203.11171 (self-consistency; weighted by length-normalised
         probability there too); Li et al. 2022, arXiv:2206.02336 (weighted by a verifier).
Departs  a reward decides ties and picks the representative, where there is one.
Cost     none. A response that was cut at its greatest length votes like any other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rsalign.core.checks import POSITIVE_REWARD, check_settings
from rsalign.core.errors import ConfigError
from rsalign.core.key import Key
from rsalign.core.types import Candidate, Prompt
from rsalign.selectors.ballot import Ties, ballot
from rsalign.selectors.estimators import tilted_weights
from rsalign.selectors.extraction import EXTRACTOR, Extract
from rsalign.selectors.protocol import Selection, certain


@dataclass(frozen=True, slots=True, kw_only=True)
class MajorityVote:
    """The answer that most candidates give.

    Attributes:
        extract: what of a text is its answer (see `rsalign.selectors.extraction`).
        ties: ``"reward"``: of equally many votes the highest total reward, then the first seen;
            ``"first"``: the first seen.

    Raises:
        ConfigError: if `extract` cannot be called, or there is no such rule for ties.
    """

    extract: Extract
    ties: Ties = "reward"

    needs_reward: ClassVar[bool] = False
    weighs: ClassVar[bool] = True

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
        """Draws nothing."""
        votes = ballot(candidates, self.extract, weights)
        chosen = votes.elect(self.ties)
        return certain(chosen, len(candidates), votes.notes(chosen))


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardWeightedVote:
    """The answer with the greatest sum of exp(reward / `temperature`).

    The weights are normalised to sum to 1: a shift of all rewards changes nothing, and a negative
    reward is a small vote, never one against. They are never the raw rewards.

    Attributes:
        extract: what of a text is its answer (see `rsalign.selectors.extraction`).
        temperature: of the weights, in the reward's units; towards 0 it is `Hard` among candidates
            with an answer, towards infinity `MajorityVote`.

    Raises:
        ConfigError: if `extract` cannot be called, or `temperature` is not finite and above 0.
    """

    extract: Extract
    temperature: float

    weighs: ClassVar[bool] = True

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
        """Draws nothing."""
        rewards = [candidate.reward for candidate in candidates]
        tilted = tilted_weights(rewards, self.temperature)
        if weights is not None:
            tilted = tuple(tilt * weight for tilt, weight in zip(tilted, weights, strict=True))
        votes = ballot(candidates, self.extract, tilted)
        chosen = votes.elect()
        return certain(chosen, len(candidates), votes.notes(chosen))


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceWeightedVote:
    """The answer with the greatest sum of the policy's confidence, exp(mean log-probability).

    Attributes:
        extract: what of a text is its answer (see `rsalign.selectors.extraction`).

    Raises:
        ConfigError: if `extract` cannot be called; in `select`, if a response has no
            log-probabilities.
    """

    extract: Extract

    needs_reward: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_settings(self, extract=EXTRACTOR)

    async def select(self, prompt: Prompt, candidates: Sequence[Candidate], key: Key) -> Selection:
        """Draws nothing."""
        votes = ballot(candidates, self.extract, [_confidence(c) for c in candidates])
        chosen = votes.elect()
        return certain(chosen, len(candidates), votes.notes(chosen))


def _confidence(candidate: Candidate) -> float:
    log_probs = candidate.response.log_probs
    if log_probs is None:
        raise ConfigError(
            "ConfidenceWeightedVote: a response has no log-probabilities; give a policy that tells "
            "them (an engine started with logprobs_mode='processed_logprobs'), or take MajorityVote"
        )
    return math.exp(math.fsum(log_probs) / max(1, len(log_probs)))

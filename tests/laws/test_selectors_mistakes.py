"""Planted mistakes in selectors, which their laws must not pass."""

import math
from dataclasses import dataclass

import pytest
from selector_law import PROMPT, first_word

from rsalign import BestOf, Plain
from rsalign.core.tasks import concurrently
from rsalign.selectors import (
    BestOfMajority,
    ChiSquaredPessimism,
    MajorityVote,
    MinimumBayesRisk,
    RewardWeightedVote,
    Selection,
    Soft,
    TopFraction,
)
from rsalign.selectors.ballot import Ballot
from rsalign.selectors.protocol import certain
from rsalign.selectors.utilities import Rouge1
from rsalign.testing import ToyPolicy, ToyReward, distance, law_of


def law_with(select, salt, *, n=3, vocab=3, strategy=BestOf):
    chosen = strategy(n=n, inner=Plain(max_tokens=2), select=select)
    return law_of(chosen, ToyPolicy(vocab, salt), ToyReward(salt), PROMPT)


@dataclass(frozen=True, kw_only=True)
class WrongSign(Soft):
    async def select(self, prompt, candidates, key):
        w = [math.exp(-candidate.reward / self.temperature) for candidate in candidates]
        return Selection(key.categorical(w), tuple(p / sum(w) for p in w))


@dataclass(frozen=True, kw_only=True)
class FloorTop(TopFraction):
    async def select(self, prompt, candidates, key):
        kept = math.floor(len(candidates) / self.m)
        return await TopFraction(m=len(candidates) / kept).select(prompt, candidates, key)


@dataclass(frozen=True, kw_only=True)
class VotesOf(MajorityVote):
    """Votes, but of another ballot."""

    async def select(self, prompt, candidates, key):
        rewards = tuple(candidate.reward for candidate in candidates)
        answers = tuple(self.extract(candidate.response.text) for candidate in candidates)
        return certain(self.ballot(answers, rewards).elect(), len(candidates))


class VotesPerReward(VotesOf):
    def ballot(self, answers, rewards):
        return Ballot(tuple(map(str, rewards)), (1.0,) * len(rewards), rewards)


class RawRewards(VotesOf):
    def ballot(self, answers, rewards):
        return Ballot(answers, rewards, rewards)


class NoneVotes(VotesOf):
    def ballot(self, answers, rewards):
        return Ballot(tuple(map(str, answers)), (1.0,) * len(rewards), rewards)


class AnyRepresentative(VotesOf):
    def ballot(self, answers, rewards):
        return Ballot(answers, (1.0,) * len(rewards), (0.0,) * len(rewards))


@dataclass(frozen=True, kw_only=True)
class MoreThanShare(BestOfMajority):
    async def select(self, prompt, candidates, key):
        above = BestOfMajority(extract=self.extract, share=self.share + 0.01)
        return await above.select(prompt, candidates, key)


@dataclass(frozen=True, kw_only=True)
class NotFresh(ChiSquaredPessimism):
    async def select(self, prompt, candidates, key):
        half = len(candidates) // 2
        again = [*candidates[:half], *candidates[:half], *candidates[2 * half :]]
        return await ChiSquaredPessimism.select(self, prompt, again, key)


@dataclass(frozen=True, kw_only=True)
class MostRisk(MinimumBayesRisk):
    async def select(self, prompt, candidates, key):
        mirrored = MinimumBayesRisk(utility=lambda one, other: -self.utility(one, other))
        return await mirrored.select(prompt, candidates, key)


@dataclass(frozen=True, kw_only=True)
class KeyOfADraw(BestOf):
    """Chooses by the key that the first candidate's first token was drawn with."""

    async def sample(self, prompt, run):
        drawn = await concurrently(
            self.inner.sample(prompt, run.branch("candidate", i)) for i in range(self.n)
        )
        key = run.key.child("candidate", 0, "draw", 0)
        return drawn[(await self.select.select(prompt, drawn, key)).index]


@pytest.mark.parametrize("salt", [0, pytest.param(1, marks=pytest.mark.nightly)])
@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (WrongSign(temperature=0.5), Soft(temperature=0.5)),
        (Soft(temperature=0.6), Soft(temperature=0.5)),
        (FloorTop(m=2), TopFraction(m=2)),
        (VotesPerReward(extract=first_word), MajorityVote(extract=first_word)),
        (NoneVotes(extract=first_word), MajorityVote(extract=first_word)),
        (AnyRepresentative(extract=first_word), MajorityVote(extract=first_word)),
        (RawRewards(extract=first_word), RewardWeightedVote(extract=first_word, temperature=0.5)),
        (
            MoreThanShare(extract=first_word, share=1 / 3),
            BestOfMajority(extract=first_word, share=1 / 3),
        ),
        (MostRisk(utility=Rouge1()), MinimumBayesRisk(utility=Rouge1())),
        (NotFresh(beta=0.5), ChiSquaredPessimism(beta=0.5)),
        (
            ChiSquaredPessimism(beta=0.5, reward_max=4.0),
            ChiSquaredPessimism(beta=0.5, reward_max=2.0),
        ),
    ],
    ids=lambda select: type(select).__name__,
)
def test_planted_mistakes_are_caught(wrong, right, salt):
    """The right ones have the laws that `test_selectors` and `test_selectors_agreement` derive."""
    assert distance(law_with(wrong, salt), law_with(right, salt)) > 1e-3


@pytest.mark.parametrize("salt", range(2))
def test_a_key_used_twice_is_caught(salt):
    soft = Soft(temperature=0.5)
    wrong = law_with(soft, salt, n=2, vocab=2, strategy=KeyOfADraw)
    assert distance(wrong, law_with(soft, salt, n=2, vocab=2)) > 1e-3

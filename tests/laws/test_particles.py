"""Particles: what they estimate is unbiased, and planted mistakes are not."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from particle_law import (
    PROMPT,
    error,
    mean_weights,
    normal,
    strategy,
    tilted,
    total_variation,
)

from rsalign import ByCompleteness, FixedSize, MajorityVote
from rsalign.populations import (
    LookAhead,
    Multinomial,
    PartialReward,
    Residual,
    Stratified,
    Systematic,
)
from rsalign.populations.growth import Growth
from rsalign.populations.particle_filter import ParticleFilter
from rsalign.selectors.extraction import LastNumber
from rsalign.selectors.protocol import certain
from rsalign.testing import ToyPolicy, ToyReward, distance, law_of, responses

ALWAYS, NEVER = 1.0, 0.0
CASES = {
    "one": strategy(n=1),
    "never": strategy(ess_threshold=NEVER),
    "multinomial": strategy(ess_threshold=ALWAYS, resample=Multinomial()),
    "residual": strategy(ess_threshold=ALWAYS, resample=Residual()),
    "stratified": strategy(ess_threshold=ALWAYS, resample=Stratified()),
    "systematic": strategy(ess_threshold=ALWAYS, resample=Systematic()),
    "adaptive": strategy(ess_threshold=0.8),
    "three": strategy(n=3, ess_threshold=ALWAYS),
    "three rounds": strategy(ess_threshold=ALWAYS, max_tokens=3),
    "longer segments": strategy(ess_threshold=ALWAYS, max_tokens=3, segmenter=FixedSize(2)),
    "power of the reward": strategy(ess_threshold=ALWAYS, twist=PartialReward(scale=0.3)),
    "no twist": strategy(ess_threshold=ALWAYS, twist=PartialReward(scale=0.0)),
    "look ahead": strategy(ess_threshold=ALWAYS, twist=LookAhead()),
    "look one token ahead": strategy(
        ess_threshold=ALWAYS, max_tokens=3, twist=LookAhead(horizon=1), n=1
    ),
}


@pytest.mark.parametrize("of", CASES.values(), ids=CASES)
@pytest.mark.parametrize("salt", [1, 3])
def test_estimates_are_unbiased(of, salt):
    assert error(of, ToyPolicy(2, salt), ToyReward(salt)) < 1e-12


def test_prefixes_may_be_valued_by_another_reward():
    """The target is that of the reward of complete answers."""
    of, policy = strategy(ess_threshold=ALWAYS, max_tokens=3), ToyPolicy(2, 1)
    both = ByCompleteness(complete=ToyReward(1), partial=ToyReward(7))
    found = mean_weights(of, policy, both)
    for y, mass in tilted(policy, ToyReward(1).value, 3).items():
        assert found[y] == pytest.approx(mass, abs=1e-12)


@pytest.mark.parametrize("rule", [Multinomial(), Systematic()])
def test_also_with_more_tokens(rule):
    of = strategy(ess_threshold=ALWAYS, resample=rule)
    assert error(of, ToyPolicy(3, 5), ToyReward(5)) < 1e-12


@pytest.mark.parametrize(
    "of",
    [
        strategy(ess_threshold=ALWAYS, rejuvenate=1),
        strategy(n=1, max_tokens=3, rejuvenate=1),
        strategy(n=1, rejuvenate=2, twist=LookAhead()),
    ],
    ids=["two", "three rounds", "random twist"],
)
def test_rejuvenated_particles_are_unbiased(of):
    assert error(of, ToyPolicy(3, 5), ToyReward(5)) < 1e-12


@pytest.mark.parametrize("salt", range(3))
def test_one_particle_is_one_draw_of_the_policy(salt):
    policy = ToyPolicy(3, salt)
    law = law_of(strategy(n=1, max_tokens=3), policy, ToyReward(salt), PROMPT)
    assert distance(law, responses(policy, PROMPT.tokens, 3)) < 1e-12


def bias(of, salt):
    policy, reward = ToyPolicy(2, salt), ToyReward(salt)
    target = normal(tilted(policy, reward.value, of.max_tokens))
    return total_variation(law_of(of, policy, reward, PROMPT), target)


@pytest.mark.parametrize("salt", range(4))
def test_the_bias_of_an_answer_shrinks_with_their_number(salt):
    one, two, four = (bias(strategy(n=n, ess_threshold=NEVER), salt) for n in (1, 2, 4))
    assert four < two < one
    assert four < 0.4 * one  # in proportion to 1 / n


@pytest.mark.parametrize("salt", [2, 3])
def test_it_shrinks_with_resampling_too(salt):
    one, three = (bias(strategy(n=n, ess_threshold=ALWAYS), salt) for n in (1, 3))
    assert three < 0.35 * one


def test_a_selector_that_cannot_weigh_is_given_resampled_answers():
    """`Last` of answers that are resampled by weight is one draw by weight."""

    @dataclass(frozen=True)
    class First:
        async def select(self, prompt, candidates, key):
            return certain(key.below(len(candidates)), len(candidates))

    policy, reward = ToyPolicy(2, 1), ToyReward(1)
    by_weight, resampled = (
        law_of(of, policy, reward, PROMPT)
        for of in (strategy(), strategy(answer=First(), resample=Multinomial()))
    )
    assert distance(by_weight, resampled) < 1e-12


def test_a_vote_is_by_weight():
    policy, reward = ToyPolicy(3, 2), ToyReward(2)
    vote = strategy(
        n=3, ess_threshold=NEVER, max_tokens=1, answer=MajorityVote(extract=LastNumber())
    )
    law = law_of(vote, policy, reward, PROMPT)
    pi = policy.probs(PROMPT.tokens)
    weight = [0.0, *(math.exp(reward.value((token,)) / vote.beta) for token in (1, 2))]

    def wins(drawn, token):
        return sum(weight[i] for i in drawn if i == token) > sum(
            weight[i] for i in drawn if i not in (0, token)
        )

    triples = [(a, b, c) for a in range(3) for b in range(3) for c in range(3)]
    expected = math.fsum(pi[a] * pi[b] * pi[c] for a, b, c in triples if wins((a, b, c), 1))
    assert law[(1,)] == pytest.approx(expected, abs=1e-12)


# planted mistakes


class WithoutRatio(Growth):
    """The whole prefix is weighed again in each round, and never divided by its last value."""

    async def extend(self, prompt, particle, run):
        return await Growth.extend(self, prompt, replace(particle, log_twist=0.0), run)


class FinishedAgain(ParticleFilter):
    """Finished particles are weighed again in each round."""

    async def _round(self, number):
        finished = {i for i, particle in enumerate(self.particles) if particle.is_complete}
        for i in finished:
            one = self.particles[i]
            self.particles[i] = replace(one, log_weight=one.log_weight + one.log_twist)
        await ParticleFilter._round(self, number)


class KeepsWeights(ParticleFilter):
    """Resampled particles keep the weights that they were chosen by."""

    def _take(self, ancestors, log_weight):
        self.particles = [self.particles[i] for i in ancestors]


class ForgetsWeights(ParticleFilter):
    """Resampled particles have weight 1, so that the mean weight is lost."""

    def _take(self, ancestors, log_weight):
        ParticleFilter._take(self, ancestors, 0.0)


@pytest.mark.parametrize("salt", [1, 3])
@pytest.mark.parametrize(
    "wrong",
    [
        {"growth_class": WithoutRatio},
        {"filter_class": FinishedAgain},
        {"filter_class": KeepsWeights},
        {"filter_class": ForgetsWeights},
    ],
    ids=lambda wrong: next(iter(wrong.values())).__name__,
)
def test_planted_mistakes_are_biased(wrong, salt):
    of = strategy(ess_threshold=ALWAYS)
    assert error(of, ToyPolicy(2, salt), ToyReward(salt), **wrong) > 1e-3


class MovesAfterResampling(ParticleFilter):
    """Particles are moved only where the weights led to resampling."""

    async def _rejuvenate(self, rejuvenation, here):
        if self._ancestors[-self.n :] != list(range(self.n)):
            await ParticleFilter._rejuvenate(self, rejuvenation, here)


def test_moves_that_depend_on_the_weights_are_biased():
    of = strategy(ess_threshold=ALWAYS, rejuvenate=1)
    wrong = error(of, ToyPolicy(3, 5), ToyReward(5), filter_class=MovesAfterResampling)
    assert wrong > 1e-4


class Argmax:
    """Takes the particle of greatest weight."""

    weighs: ClassVar[bool] = True

    async def select(self, prompt, candidates, key, *, weights):
        return certain(max(range(len(weights)), key=weights.__getitem__), len(weights))


@pytest.mark.parametrize("salt", range(4))
def test_an_argmax_of_the_weights_is_further_from_the_target(salt):
    of = strategy(n=5, ess_threshold=NEVER)
    drawn, greatest = bias(of, salt), bias(replace(of, answer=Argmax()), salt)
    assert greatest > 1.5 * drawn

"""Particles on the real engine: their estimates against the exact target at a short horizon.

An estimate is a mean over independent populations. It must lie within five standard errors of what
transformers alone computes, and that of a planted mistake must not.
"""

import asyncio
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from exact import next_probs, rewards, tokenizer

from rsalign import FixedSize, Key, Multinomial, Particles, Run, Sampling
from rsalign.core.tasks import concurrently
from rsalign.populations.growth import Growth
from rsalign.populations.particle_filter import ParticleFilter
from rsalign.populations.twists import Target
from rsalign.rewards.wrappers import Cached

pytestmark = pytest.mark.engine

PROBLEM, MAX_TOKENS, BETA, NUM_RUNS = 0, 3, 3.0, 200
EOS = tokenizer().eos_token_id
WORDS = tuple(tokenizer().convert_tokens_to_ids(["Answer", ":"]))
TOKENS = (EOS, *WORDS, *tokenizer().encode(" 12", add_special_tokens=False))
LAW = Sampling(temperature=2.0, allowed_token_ids=TOKENS, logit_bias=((EOS, 3.0),))
LINES = Particles(
    n=3,
    segmenter=FixedSize(1),
    beta=BETA,
    resample=Multinomial(),
    ess_threshold=1.0,
    max_tokens=MAX_TOKENS,
)


@pytest.fixture(scope="module")
def target(ask):
    """Pi and pi w of every answer, by transformers alone."""
    prompt = ask(PROBLEM)
    base, open_ = {}, {(): 1.0}
    for length in range(1, MAX_TOKENS + 1):
        raw = next_probs([[*prompt.tokens, *before] for before in open_]).log()
        raw[:, EOS] += LAW.logit_bias[0][1]
        masked = torch.full_like(raw, -math.inf)
        masked[:, TOKENS] = raw[:, TOKENS]
        longer = {}
        laws = (masked / LAW.temperature).softmax(-1)
        for (before, mass), row in zip(open_.items(), laws, strict=True):
            for token in TOKENS:
                ended = token == EOS or length == MAX_TOKENS
                (base if ended else longer)[(*before, token)] = mass * row[token].item()
        open_ = longer
    values = rewards(prompt, base)
    return base, {y: p * math.exp(values[y] / BETA) for y, p in base.items()}


def estimates(of, prompt, policy, reward, answers, growth_class=Growth):
    """The estimates of pi w of these answers, and of Z, of each population, ``(runs, answers)``."""
    growth = growth_class(
        segmenter=of.segmenter,
        twist=of.twist,
        target=Target(of.log_weight, of.max_tokens),
        tokens=of.tokens,
    )

    async def one(seed):
        population = ParticleFilter(
            prompt=prompt,
            run=Run(policy.with_sampling(LAW), reward, Key(seed)),
            growth=growth,
            n=of.n,
            resample=of.resample,
            ess_threshold=of.ess_threshold,
        )
        await population.run_rounds()
        weights = [(p.tokens, math.exp(p.log_weight) / of.n) for p in population.particles]
        each = [sum(w for tokens, w in weights if tokens == y) for y in answers]
        return [*each, sum(w for _, w in weights)]

    async def main():
        return await concurrently(one(seed) for seed in range(NUM_RUNS))

    return np.array(asyncio.run(main()))


def distances(found, wanted):
    """How many standard errors the means lie from what they estimate, ``(answers,)``."""
    errors = found.std(0, ddof=1) / math.sqrt(len(found))
    return np.abs(found.mean(0) - wanted) / errors


class WithoutRatio(Growth):
    """A planted mistake: the reward of a prefix is counted again in each round."""

    async def extend(self, prompt, particle, run):
        grown = await Growth.extend(self, prompt, particle, run)
        return grown if not particle.ends else grown.extended(grown.candidate, 2 * grown.log_twist)


def test_particles_estimate_the_target(target, policy, reward, ask):
    _, weighed = target
    likely = sorted(weighed, key=weighed.get)[-4:]
    wanted = [*(weighed[y] for y in likely), sum(weighed.values())]
    found = estimates(LINES, ask(PROBLEM), policy, Cached(reward), likely)
    assert distances(found, wanted).max() < 5
    wrong = estimates(LINES, ask(PROBLEM), policy, Cached(reward), likely, WithoutRatio)
    assert distances(wrong, wanted).max() > 5


@dataclass(frozen=True)
class Starts:
    """Only answers that begin with these tokens."""

    first: tuple

    async def allows(self, prompt, response):
        return not response.tokens or response.tokens[0] in self.first


def test_tokens_are_properly_weighted(target, policy, ask):
    base, _ = target
    allowed = (EOS, WORDS[0])
    of = Particles(n=1, segmenter=FixedSize(1), max_tokens=1, tokens=Starts(allowed))
    wanted = [sum(p for y, p in base.items() if y[0] == token) for token in allowed]

    class Zero:
        async def score(self, prompt, response):
            return 0.0

    answers = [(token,) for token in allowed]
    found = estimates(of, ask(PROBLEM), policy, Zero(), answers)
    assert distances(found, [*wanted, sum(wanted)]).max() < 5
    assert 0 < sum(wanted) < 0.95

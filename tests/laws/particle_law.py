"""The exact mean of what particles estimate, by enumeration."""

import math
from collections import defaultdict

from rsalign import FixedSize, Message, Prompt
from rsalign.core.run import Run
from rsalign.populations.growth import Growth
from rsalign.populations.particle_filter import ParticleFilter
from rsalign.populations.rejuvenation import Rejuvenation
from rsalign.populations.twists import Target
from rsalign.strategies.particles import Particles
from rsalign.testing import law, responses

PROMPT = Prompt((Message("user", "1"),), (1,))
BETA = 0.7


def strategy(**settings):
    given = {"n": 2, "segmenter": FixedSize(1), "beta": BETA, "max_tokens": 2}
    return Particles(**given | settings)


def tilted(policy, value, max_tokens, beta=BETA):
    """pi w on all answers, not normalised."""
    base = responses(policy, PROMPT.tokens, max_tokens)
    return {y: p * math.exp(value(y) / beta) for y, p in base.items()}


def normal(masses):
    total = math.fsum(masses.values())
    return {y: mass / total for y, mass in masses.items()}


def total_variation(one, other):
    return sum(abs(one.get(y, 0.0) - other.get(y, 0.0)) for y in {*one, *other}) / 2


def mean_weights(of, policy, reward, filter_class=ParticleFilter, growth_class=Growth):
    """E[(1 / N) sum_i W_i 1{y_i = y}] for each answer y, by enumeration."""

    async def weighted(key):
        run = Run(policy, reward, key)
        growth = growth_class(
            segmenter=of.segmenter,
            twist=of.twist,
            target=Target(of.log_weight, of.max_tokens),
            tokens=of.tokens,
        )
        population = filter_class(
            prompt=PROMPT,
            run=run,
            growth=growth,
            n=of.n,
            resample=of.resample,
            ess_threshold=of.ess_threshold,
            rejuvenation=Rejuvenation(growth=growth, moves=of.rejuvenate)
            if of.rejuvenate
            else None,
        )
        await population.run_rounds()
        return tuple((one.tokens, one.log_weight) for one in population.particles)

    means = defaultdict(float)
    for particles, mass in law(weighted).items():
        for tokens, log_weight in particles:
            means[tokens] += mass * math.exp(log_weight) / len(particles)
    return dict(means)


def error(of, policy, reward, **classes):
    """The greatest error of the estimate of pi(y) w(y)."""
    found = mean_weights(of, policy, reward, **classes)
    wanted = tilted(policy, reward.value, of.max_tokens)
    return max(abs(found.get(y, 0.0) - wanted.get(y, 0.0)) for y in {*found, *wanted})

"""Speculate, Rsd, Gsi and Chunks: closed forms from the toy tables, and mistakes that must die."""

import asyncio
import itertools
import math

import pytest
from draft_law import BETA, PROMPT, Toys, normalised

from rsalign import (
    Chunks,
    ConfigError,
    Conformal,
    Constant,
    Constrained,
    Entropy,
    FixedSize,
    Gsi,
    HardAcceptance,
    Rsd,
    SoftAcceptance,
    Speculate,
    Without,
    align,
)
from rsalign.strategies import chunks, gsi, speculate
from rsalign.testing import ToyPolicy, ToyReward, distance, law_of

TOYS = Toys()
SHAPES = [Toys(), Toys(vocab=3, max_tokens=2, size=2), Toys(max_tokens=3, size=2, salt=1)]


def found(toys, strategy, parts=None, reward=None):
    return law_of(strategy, toys.policy, reward or toys.reward, PROMPT, parts or toys.parts)


def settings(toys):
    return {"segmenter": FixedSize(toys.size), "max_tokens": toys.max_tokens}


def speculated(toys, tries, forced=True):
    """min(p, q) + (p - q)+ (1 - (1 - TV)^R), and what is forced."""

    def step(kept):
        p, q = toys.segments(toys.policy, kept), toys.segments(toys.draft, kept)
        tv = math.fsum(max(0.0, p[s] - q[s]) for s in p)
        return {
            s: min(p[s], q[s])
            + max(0.0, p[s] - q[s]) * (1 - (1 - tv) ** tries)
            + forced * tv * (1 - tv) ** (tries - 1) * min(p[s], q[s])
            for s in p
        }

    return toys.answers(step)


@pytest.mark.parametrize("toys", SHAPES, ids=repr)
@pytest.mark.parametrize("tries", [1, 2])
def test_speculation_has_its_law(toys, tries):
    law = found(toys, Speculate(max_tries=tries, **settings(toys)))
    assert distance(law, speculated(toys, tries)) < 1e-12


def test_speculation_is_the_policy_but_for_what_is_forced():
    toys = Toys(vocab=3, max_tokens=1)
    p, q = toys.segments(toys.policy), toys.segments(toys.draft)
    tv = math.fsum(max(0.0, p[s] - q[s]) for s in p)
    for tries in (1, 2, 3):
        law = found(toys, Speculate(max_tries=tries, **settings(toys)))
        away = math.fsum(abs(law[s] - p[s]) for s in p) / 2
        assert 0 < away <= tv * (1 - tv) ** tries + 1e-12
        unforced = speculated(toys, tries, forced=False)
        lost = 1 - math.fsum(unforced.values())
        assert lost == pytest.approx(tv * (1 - tv) ** tries, abs=1e-12)


def test_a_speculation_under_a_constraint_is_the_policy_given_what_is_allowed():
    toys = Toys(vocab=3, max_tokens=1)
    p = toys.segments(toys.policy)
    reward = Constrained(toys.reward, Without("2"))
    law = found(toys, Speculate(max_tries=2, **settings(toys)), reward=reward)
    exact = speculated(toys, 2)
    allowed = {s: exact[s] for s in p if 2 not in s}
    times = 1 + exact[2,]
    expected = {s: mass * times for s, mass in allowed.items()}
    expected[()] = exact[2,] ** 2  # an abstention
    assert distance(law, expected) < 1e-12


@pytest.mark.parametrize("toys", SHAPES, ids=repr)
@pytest.mark.parametrize("acceptance", [HardAcceptance(), SoftAcceptance(beta=BETA)], ids=repr)
def test_rsd_has_its_law(toys, acceptance):
    def step(kept):
        p, q = toys.segments(toys.policy, kept), toys.segments(toys.draft, kept)
        a = {s: math.exp(acceptance.log_accept(toys.value(s), 0.3)) for s in q}
        left = 1 - math.fsum(q[s] * a[s] for s in q)
        return {s: q[s] * a[s] + left * p[s] for s in p}

    strategy = Rsd(threshold=Constant(value=0.3), acceptance=acceptance, **settings(toys))
    assert distance(found(toys, strategy), toys.answers(step)) < 1e-12


def test_rsd_under_a_constraint():
    toys = Toys(vocab=3, max_tokens=1)
    p, q = toys.segments(toys.policy), toys.segments(toys.draft)
    reward = Constrained(toys.reward, Without("2"))
    strategy = Rsd(threshold=Constant(value=-9.0), max_tries=2, **settings(toys))
    expected = {s: q[s] + q[2,] * p[s] * (1 + p[2,]) for s in p if 2 not in s}
    expected[()] = q[2,] * p[2,] ** 2
    assert distance(found(toys, strategy, reward=reward), expected) < 1e-12


def soft_choice(law, log_worth, n):
    """P(i chosen among n draws of a law in proportion to its worth), with the worth."""
    chosen = {}
    for drawn in itertools.product(law, repeat=n):
        mass = math.prod(law[s] for s in drawn)
        total = math.fsum(math.exp(log_worth(s)) for s in drawn)
        for s in drawn:
            chosen[s] = chosen.get(s, 0.0) + mass * math.exp(log_worth(s)) / total
    return chosen


def guided(toys, n, acceptance, bar, ratio=lambda p, q: math.log(p / q)):
    def step(kept):
        p, q = toys.segments(toys.policy, kept), toys.segments(toys.draft, kept)
        value = {s: toys.value(s) + BETA * ratio(p[s], q[s]) for s in q}
        first = soft_choice(q, lambda s: value[s] / BETA, n)
        a = {s: math.exp(acceptance.log_accept(value[s], bar)) for s in q}
        left = 1 - math.fsum(first[s] * a[s] for s in q)
        second = soft_choice(p, lambda s: toys.value(s) / BETA, n)
        return {s: first[s] * a[s] + left * second[s] for s in p}

    return toys.answers(step)


@pytest.mark.parametrize(
    ("toys", "n"), [(Toys(), 1), (Toys(vocab=3, max_tokens=1), 2)], ids=["two segments", "n = 2"]
)
@pytest.mark.parametrize("acceptance", [HardAcceptance(), SoftAcceptance(beta=BETA)], ids=repr)
def test_gsi_has_its_law(toys, acceptance, n):
    strategy = Gsi(
        n=n, beta=BETA, threshold=Constant(value=0.4), acceptance=acceptance, **settings(toys)
    )
    assert distance(found(toys, strategy), guided(toys, n, acceptance, 0.4)) < 1e-12


def test_gsi_tends_to_the_tilted_policy():
    toys = Toys(vocab=3, max_tokens=1)
    target = normalised(
        {s: p * math.exp(toys.value(s) / BETA) for s, p in toys.segments(toys.policy).items()}
    )
    away = [distance(guided(toys, n, SoftAcceptance(beta=BETA), 0.4), target) for n in (1, 2, 4, 6)]
    assert away == sorted(away, reverse=True)
    assert away[-1] < away[0] / 3


def chunked(toys, ratio, *, bound, tries, window):
    """The law by following every history of tests; `ratio` is ln R of a chunk after a prefix."""
    done = {}

    def follow(kept, seen, mass):
        q = toys.segments(toys.policy, kept)
        least = max(bound, *seen[-window:], -math.inf)

        def attempt(here, mass):
            for s, p in q.items():
                log_ratio = ratio(kept, s)
                accept = min(1.0, math.exp(log_ratio - least))
                tested = (*here, log_ratio)
                taken = mass * p * (1.0 if len(tested) == tries else accept)
                after = seen + tested
                if toys.ended(s):
                    done[s] = done.get(s, 0.0) + taken
                elif taken:
                    follow(s, after, taken)
                if len(tested) < tries and accept < 1:
                    attempt(tested, mass * p * (1 - accept))

        attempt((), mass)

    follow((), (), 1.0)
    return done


KIND, BRIEF = ToyPolicy(2, salt=21), ToyPolicy(2, salt=22)


def ratio_of(toys, proposer, weights):
    def ratio(kept, s):
        def log(model):
            return math.log(toys.segments(model, kept)[s])

        ref = log(toys.policy)
        tilted = math.fsum(
            a * (log(one) - ref) for a, one in zip(weights, (KIND, BRIEF), strict=True)
        )
        return ref + tilted - log(proposer)

    return ratio


@pytest.mark.parametrize("ahead", [1, 2])
@pytest.mark.parametrize("window", [1, 8])
@pytest.mark.parametrize("weights", [(1.0, 0.5), (-0.4, 1.2)])
def test_chunks_have_their_law(ahead, window, weights):
    toys = Toys(max_tokens=2)
    strategy = Chunks(
        attributes=("kind", "brief"),
        weights=weights,
        ahead=ahead,
        window=window,
        max_tries=2,
        log_bound=-0.1,
        **settings(toys),
    )
    law = found(toys, strategy, {"kind": KIND, "brief": BRIEF})
    ratio = ratio_of(toys, toys.policy, weights)
    assert distance(law, chunked(toys, ratio, bound=-0.1, tries=2, window=window)) < 1e-12


def test_chunks_of_an_expert_have_the_same_tilted_law_under_a_large_bound():
    """Without clipping, every proposal gives g R / Z = pi_ref prod (pi_i / pi_ref)^a_i / Z."""
    toys = Toys(max_tokens=1)
    weights = (0.7, 0.6)
    p = toys.segments(toys.policy)
    ratio = ratio_of(toys, toys.policy, weights)
    target = normalised({s: p[s] * math.exp(ratio((), s)) for s in p})
    for proposal in ("policy", "kind"):
        strategy = Chunks(
            attributes=("kind", "brief"),
            weights=weights,
            proposal=proposal,
            log_bound=1.0,
            ahead=1,
            max_tries=6,
            **settings(toys),
        )
        law = found(toys, strategy, {"kind": KIND, "brief": BRIEF})
        assert distance(law, target) < 0.05  # what six tries have forced


def away_of_speculation():
    return distance(found(TOYS, Speculate(max_tries=2, **settings(TOYS))), speculated(TOYS, 2))


def away_of_guidance():
    toys, soft = Toys(vocab=3, max_tokens=1), SoftAcceptance(beta=BETA)
    strategy = Gsi(n=2, beta=BETA, threshold=Constant(value=0.4), acceptance=soft, **settings(toys))
    return distance(found(toys, strategy), guided(toys, 2, soft, 0.4))


def away_of_chunks():
    weights = (1.0, 0.5)
    strategy = Chunks(attributes=("kind", "brief"), weights=weights, max_tries=2, **settings(TOYS))
    law = found(TOYS, strategy, {"kind": KIND, "brief": BRIEF})
    ratio = ratio_of(TOYS, TOYS.policy, weights)
    return distance(law, chunked(TOYS, ratio, bound=0.0, tries=2, window=8))


MISTAKES = {
    "p and q exchanged in speculation": (
        away_of_speculation,
        speculate,
        "log_ratio",
        lambda real: lambda *given: -real(*given),
    ),
    "the residual is q / p": (
        away_of_speculation,
        speculate,
        "log_residual",
        lambda real: lambda log_ratio: -abs(log_ratio),
    ),
    "the ratio is left out of guidance": (
        away_of_guidance,
        gsi,
        "log_ratio",
        lambda real: lambda *given: 0.0,
    ),
    "beta multiplies in the choice": (
        away_of_guidance,
        gsi,
        "tilted_weights",
        lambda real: lambda values, beta: real(values, 1 / beta),
    ),
    "a model counts once too often": (
        away_of_chunks,
        chunks,
        "_weighed",
        lambda real: lambda powers, told: real(powers, told) + told[0],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told(mistake, monkeypatch):
    away, module, name, planted = MISTAKES[mistake]
    assert away() < 1e-12
    monkeypatch.setattr(module, name, planted(getattr(module, name)))
    assert away() > 1e-3


@pytest.mark.parametrize("kind", [Speculate, Gsi, Chunks])
def test_segments_by_entropy_are_refused_where_probabilities_are_compared(kind):
    with pytest.raises(ConfigError, match="different entropies"):
        kind(segmenter=Entropy(1.0))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weights": (1.0, 2.0)}, "one finite number for each"),
        ({"weights": (math.nan,)}, "finite"),
        ({"attributes": ("a", "a"), "weights": (1.0, 1.0)}, "different names"),
        ({"proposal": "nobody"}, "'policy' or one of"),
    ],
    ids=str,
)
def test_settings_of_chunks_are_checked(given, message):
    with pytest.raises(ConfigError, match=message):
        Chunks(segmenter=FixedSize(2), **given)


@pytest.mark.parametrize("kind", [Rsd, Gsi])
def test_a_missing_threshold_is_told(kind):
    with pytest.raises(ConfigError, match="acceptance=Conformal"):
        found(TOYS, kind(**settings(TOYS)))
    assert kind(**settings(TOYS)).missing_setting
    assert not kind(acceptance=Conformal(alpha=0.5), **settings(TOYS)).missing_setting


@pytest.mark.parametrize("kind", [Speculate, Chunks])
def test_segments_that_no_reward_chooses_are_not_judged(kind):
    judged = []

    class Seen(ToyReward):
        async def score(self, prompt, response):
            judged.append(response.complete)
            return await super().score(prompt, response)

    strategy = kind(segmenter=FixedSize(1), max_tokens=6)
    parts = {"draft": ToyPolicy(salt=1)}
    for seed in range(6):
        result = asyncio.run(
            align(PROMPT, strategy, policy=ToyPolicy(), reward=Seen(), seed=seed, parts=parts)
        )
        assert result.candidate.reward == ToyReward().value(result.candidate.tokens)
    assert all(judged)

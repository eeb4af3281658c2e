"""Calibrate as a mixture over its own draws, and what Cards does with a hopeless target."""

import asyncio
import itertools
import math
import statistics
from collections import defaultdict
from dataclasses import dataclass

import pytest
from cards_law import PROMPT, Setting, line, next_law, soft

from rsalign import ConfigError, FixedSize, Key, Run, Verdict
from rsalign.segments.acceptance import HardAcceptance, SoftAcceptance
from rsalign.segments.thresholds import Constant, Line, above_mean, upper_quantile
from rsalign.strategies.calibrate import Calibrate, calibrated_target
from rsalign.strategies.cards import Cards
from rsalign.testing import EOS, ToyPolicy, ToyReward, distance, law, law_of, responses

LENGTH = 2


def inner(**settings):
    return Cards(
        segmenter=FixedSize(1),
        acceptance=SoftAcceptance(beta=0.7),
        max_tokens=LENGTH,
        max_tries=2,
        **settings,
    )


def mixture(policy, reward, target_of, bar_of):
    """Sum over pairs of answers of their probability times the law with their target."""
    base, mixed = responses(policy, PROMPT.tokens, LENGTH), defaultdict(float)
    for pair in itertools.product(base, repeat=2):
        bar = bar_of(target_of([reward.value(y) for y in pair]))
        case = Setting(bar=bar, accept=soft(0.7), size=1, max_tokens=LENGTH, tries=2)
        for y, p in case.law(policy, reward.value).items():
            mixed[y] += math.prod(base[z] for z in pair) * p
    return mixed


@pytest.mark.parametrize("salt", range(3))
@pytest.mark.parametrize(
    ("settings", "target_of"),
    [
        ({"quantile": 0.5}, min),
        ({"quantile": 0.7}, max),
        ({"num_sds": 0.5}, lambda r: statistics.fmean(r) + 0.5 * statistics.pstdev(r)),
    ],
)
def test_the_law(salt, settings, target_of):
    policy, reward = ToyPolicy(2, salt), ToyReward(salt)

    def paper(target):
        return line(reward.value, target, 0.5, LENGTH)

    found = law_of(Calibrate(inner=inner(), draws=2, **settings), policy, reward, PROMPT)
    assert distance(found, mixture(policy, reward, target_of, paper)) < 1e-12


@pytest.mark.parametrize(
    ("threshold", "weight"), [(Line(target=9, prompt_weight=0.2), 0.2), (Constant(value=9), 0)]
)
def test_a_given_threshold_keeps_its_form(threshold, weight):
    policy, reward = ToyPolicy(2, 1), ToyReward(1)
    strategy = Calibrate(inner=inner(threshold=threshold), draws=2, quantile=1)

    def bar_of(target):
        return line(reward.value, target, weight, LENGTH)

    found = law_of(strategy, policy, reward, PROMPT)
    assert distance(found, mixture(policy, reward, max, bar_of)) < 1e-12


@pytest.mark.parametrize("salt", range(3))
def test_the_law_of_the_target(salt):
    policy, reward = ToyPolicy(3, salt), ToyReward(salt)

    async def target(key):
        run = Run(policy, reward, key)
        return await calibrated_target(PROMPT, run, draws=2, max_tokens=LENGTH, quantile=1)

    base, greatest = responses(policy, PROMPT.tokens, LENGTH), defaultdict(float)
    for one, other in itertools.product(base, repeat=2):
        greatest[max(reward.value(one), reward.value(other))] += base[one] * base[other]
    assert distance(law(target), greatest) < 1e-12


def test_the_record():
    run = Run(ToyPolicy(4), ToyReward(), Key(2))
    answer = asyncio.run(Calibrate(inner=inner(), draws=5).sample(PROMPT, run))
    rewards = run.trace.notes["calibration_rewards"]
    assert len(rewards) == 5
    assert run.trace.notes["target"] == sorted(rewards)[3]  # 4 of 5 do not exceed it
    assert run.trace.notes["hopeless"] is False
    assert run.trace.committed == answer.tokens
    again = Run(ToyPolicy(4), ToyReward(), Key(2).child("calibrate"))
    target = asyncio.run(calibrated_target(PROMPT, again, draws=5, max_tokens=LENGTH))
    assert target == run.trace.notes["target"]


def test_targets():
    rewards = (3.0, -1.0, 2.0, 7.0, 0.0, 1.0, 4.0, 5.0, 6.0, 8.0)
    for quantile in (0.05, 0.1, 0.3, 0.7, 0.71, 0.99, 1.0):
        target = upper_quantile(rewards, quantile)
        assert sum(r <= target for r in rewards) >= quantile * 10 - 1e-6
        assert sum(r < target for r in rewards) < quantile * 10 - 1e-6
    assert above_mean((1.0, 3.0), 2.0) == 4.0
    assert above_mean((1.5,), 2.0) == 1.5


@pytest.mark.parametrize(
    "wrong", [{"draws": 0}, {"quantile": 0}, {"quantile": 1.2}, {"num_sds": math.nan}]
)
def test_refusals(wrong):
    with pytest.raises(ConfigError, match=f"Calibrate\\({next(iter(wrong))}="):
        Calibrate(inner=inner(), **wrong)
    with pytest.raises(ConfigError, match="give Cards"):
        Calibrate(inner=HardAcceptance())


# a target out of reach


def hopeless_law(policy, reward, case, level):
    """By every sequence of tries at the first segment; then by the closed form, or by pi."""
    q, accept = case.first(policy, reward.value)
    done, follow = defaultdict(float), defaultdict(float)
    for n in range(1, case.tries + 1):
        for rejected in itertools.product(q, repeat=n - 1):
            mass = math.prod(q[s] * (1 - accept[s]) for s in rejected)
            for s in q:
                follow[s, False] += mass * q[s] * accept[s]
    for rejected in itertools.product(q, repeat=case.tries):
        mass = math.prod(q[s] * (1 - accept[s]) for s in rejected)
        low = statistics.fmean(accept[s] for s in rejected) < level
        follow[max(rejected, key=reward.value), low] += mass
    for (s, low), mass in follow.items():
        if s[-1] == EOS or len(s) == case.max_tokens:
            done[s] += mass
        elif low:
            rest = responses(policy, PROMPT.tokens + s, case.max_tokens - len(s))
            for tail, p in rest.items():
                done[s + tail] += mass * p
        else:
            for y, p in continued(policy, reward, case, s).items():
                done[y] += mass * p
    return done


def continued(policy, reward, case, kept):
    q, accept = case.first(policy, reward.value, kept)
    assert all(s[-1] == EOS or len(s) == case.max_tokens for s in q)  # one segment is left
    return next_law(q, accept, reward.value, case.tries, case.exhausted)


@pytest.mark.parametrize("salt", range(3))
@pytest.mark.parametrize("level", [0.05, 0.2, 0.6])
def test_a_hopeless_target(salt, level):
    policy, reward = ToyPolicy(2, salt), ToyReward(salt)
    strategy = Cards(
        segmenter=FixedSize(2),
        threshold=Constant(value=2.5),
        acceptance=SoftAcceptance(beta=1.0),
        max_tokens=4,
        max_tries=2,
        hopeless_below=level,
    )
    case = Setting(bar=lambda n: 2.5, accept=soft(1.0), size=2, max_tokens=4, tries=2)
    found = law_of(strategy, policy, reward, PROMPT)
    assert distance(found, hopeless_law(policy, reward, case, level)) < 1e-12


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_a_hopeless_target_is_not_burned_for(level):
    drawn = []

    class Counting(ToyPolicy):
        async def extend(self, prefix, **settings):
            drawn.append(prefix)
            return await ToyPolicy.extend(self, prefix, **settings)

    strategy = Cards(
        segmenter=FixedSize(2),
        threshold=Constant(value=99),
        acceptance=HardAcceptance(),
        max_tokens=12,
        max_tries=6,
        hopeless_below=level,
    )
    run = Run(Counting(60), ToyReward(), Key(1))
    answer = asyncio.run(strategy.sample(PROMPT, run))
    assert run.trace.forced
    assert run.trace.notes["hopeless"] is bool(level)
    assert run.trace.committed == answer.tokens
    assert len(answer.tokens) == 12
    if level:
        assert len(drawn) == 6 + 1
        assert run.trace.notes["num_forced"] == run.trace.notes["num_segments"] == 2
    else:
        assert len(drawn) == 6 * 6
    verdicts = [p.verdict for p in run.trace.proposals]
    assert Verdict.ACCEPTED not in verdicts


@dataclass(frozen=True)
class Steep:
    """In reach at the first segment, and never after it."""

    needs_prompt_reward = False

    def at(self, num_tokens, *, prompt_reward, max_tokens):
        return -9.0 if num_tokens <= 2 else 9.0


def test_only_the_first_segment_tells_whether_a_target_is_hopeless():
    strategy = Cards(
        segmenter=FixedSize(2),
        threshold=Steep(),
        acceptance=HardAcceptance(),
        max_tokens=8,
        max_tries=3,
        hopeless_below=1.0,
    )
    run = Run(ToyPolicy(200), ToyReward(), Key(1))
    asyncio.run(strategy.sample(PROMPT, run))
    assert run.trace.notes["hopeless"] is False
    assert run.trace.notes["num_proposals"] == 1 + 3 * 3


@pytest.mark.parametrize(("quantile", "rank"), [(0.07, 7), (0.14, 14), (0.28, 28), (0.55, 55)])
def test_a_product_that_was_rounded_up_does_not_move_the_rank(quantile, rank):
    """0.07 * 100 is 7.000000000000001 in binary, and the seventh of a hundred will do."""
    assert quantile * 100 > rank
    assert upper_quantile(tuple(map(float, range(1, 101))), quantile) == rank

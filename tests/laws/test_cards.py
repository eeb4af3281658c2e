"""Cards against the closed form of its docstring, by enumeration."""

import asyncio
import itertools
import math
from dataclasses import dataclass

import pytest
from cards_law import FAILED, PROMPT, SALTS, Setting, hard, line, segments, soft
from selector_law import CoarseReward

from rsalign import Blocks, FixedSize, Key, Run, Verdict
from rsalign.segments.acceptance import HardAcceptance, SoftAcceptance
from rsalign.segments.thresholds import Constant, Line
from rsalign.strategies.cards import Cards, TriesExhaustedError
from rsalign.testing import EOS, ToyPolicy, ToyReward, distance, law


@dataclass(frozen=True)
class Uncertain:
    """Ends where the next token is uncertain."""

    entropy: float
    max_tokens: int
    engine_arguments = {}  # noqa: RUF012 - an empty one

    def ends_before(self, num_drawn, entropy):
        return entropy >= self.entropy

    def ends_after(self, num_drawn, entropy, text):
        return False


def cards_law(strategy, policy, reward):
    async def answer(key):
        try:
            return (await strategy.sample(PROMPT, Run(policy, reward, key))).tokens
        except TriesExhaustedError:
            return FAILED

    return law(answer)


ACCEPTANCES = [(SoftAcceptance(beta=0.7), soft(0.7)), (HardAcceptance(), hard)]
THRESHOLDS = [
    (Line(target=0.6), lambda value, length: line(value, 0.6, 0.5, length)),
    (Line(target=0.9, prompt_weight=0.8), lambda value, length: line(value, 0.9, 0.8, length)),
    (Constant(value=0.3), lambda value, length: lambda n: 0.3),
]
SIZES = [(1, 1, 3), (1, 2, 3), (1, 3, 2), (2, 1, 4), (2, 2, 3), (2, 3, 3)]  # n, tries, length


@pytest.mark.parametrize("salt", SALTS)
@pytest.mark.parametrize("exhausted", ["best", "last", "finish", "fail"])
@pytest.mark.parametrize(("size", "tries", "length"), SIZES)
def test_the_law(salt, exhausted, size, tries, length):
    policy, reward = ToyPolicy(2, salt), ToyReward(salt)
    for (rule, accept), (threshold, bar) in itertools.product(ACCEPTANCES, THRESHOLDS):
        strategy = Cards(
            segmenter=FixedSize(size),
            threshold=threshold,
            acceptance=rule,
            max_tokens=length,
            max_tries=tries,
            when_exhausted=exhausted,
        )
        case = Setting(
            bar=bar(reward.value, length),
            accept=accept,
            size=size,
            max_tokens=length,
            tries=tries,
            exhausted=exhausted,
        )
        assert distance(cards_law(strategy, policy, reward), case.law(policy, reward.value)) < 1e-12


@pytest.mark.parametrize(("n", "least"), [(2, 1), (2, 2), (3, 1), (3, 2)])
def test_segments_that_fill_blocks(n, least):
    """They end where prompt and answer have a multiple of n tokens and one."""
    policy, reward = ToyPolicy(2), ToyReward()

    def size(kept):
        start = len(PROMPT.tokens) + len(kept)
        return next(end for end in range(start + least, 99) if end % n == 1) - start

    strategy = Cards(
        segmenter=Blocks(n, least),
        threshold=Line(target=0.6),
        acceptance=SoftAcceptance(beta=0.7),
        max_tokens=5,
        max_tries=2,
    )
    bar = line(reward.value, 0.6, 0.5, 5)
    case = Setting(bar=bar, accept=soft(0.7), size=size, max_tokens=5, tries=2)
    assert distance(cards_law(strategy, policy, reward), case.law(policy, reward.value)) < 1e-12


@pytest.mark.parametrize("salt", range(4))
def test_more_tokens_and_ties(salt):
    policy, reward = ToyPolicy(4, salt), CoarseReward(salt)
    common = {"max_tokens": 2, "when_exhausted": "best", "max_tries": 2}
    strategy = Cards(
        segmenter=FixedSize(1),
        threshold=Constant(value=1),
        acceptance=SoftAcceptance(beta=1.3),
        **common,
    )
    case = Setting(bar=lambda n: 1.0, accept=soft(1.3), size=1, max_tokens=2, tries=2)
    assert distance(cards_law(strategy, policy, reward), case.law(policy, reward.value)) < 1e-12


@pytest.mark.parametrize("salt", range(4))
@pytest.mark.parametrize("exhausted", ["best", "last"])
def test_segments_that_end_where_the_model_is_uncertain(salt, exhausted):
    policy, reward = ToyPolicy(2, salt), ToyReward(salt)
    entropy = 0.66  # nats; the tables have some of at most ln 2 = 0.693
    strategy = Cards(
        segmenter=Uncertain(entropy, 3),
        threshold=Line(target=0.6),
        acceptance=SoftAcceptance(beta=0.7),
        max_tokens=4,
        max_tries=2,
        when_exhausted=exhausted,
    )
    case = Setting(
        bar=line(reward.value, 0.6, 0.5, 4),
        accept=soft(0.7),
        size=3,
        entropy=entropy,
        max_tokens=4,
        tries=2,
        exhausted=exhausted,
    )
    assert distance(cards_law(strategy, policy, reward), case.law(policy, reward.value)) < 1e-12


def test_the_toy_tables_are_uncertain_now_and_then():
    lengths = {
        len(s)
        for salt in range(4)
        for s in segments(ToyPolicy(2, salt), (), max_tokens=4, size=3, entropy=0.66)
        if s[-1] != EOS
    }
    assert lengths == {1, 3}


@pytest.mark.parametrize("salt", range(3))
@pytest.mark.parametrize("tries", [1, 2, 3])
@pytest.mark.parametrize("proposals", [1, 2, "auto"])
def test_how_often_a_segment_is_forced(salt, tries, proposals):
    policy, reward = ToyPolicy(3, salt), ToyReward(salt)
    strategy = Cards(
        segmenter=FixedSize(1),
        threshold=Constant(value=0.8),
        acceptance=SoftAcceptance(beta=0.6),
        max_tokens=1,
        max_tries=tries,
        proposals=proposals,
    )

    async def forced(key):
        run = Run(policy, reward, key)
        await strategy.sample(PROMPT, run)
        assert run.trace.forced == (run.trace.proposals[-1].verdict is Verdict.FORCED)
        return run.trace.forced

    case = Setting(bar=lambda n: 0.8, accept=soft(0.6), size=1, max_tokens=1, tries=tries)
    q, accept = case.first(policy, reward.value)
    rejected = 1 - math.fsum(q[s] * accept[s] for s in q)
    assert law(forced).get(True, 0.0) == pytest.approx(rejected**tries, abs=1e-12)


@pytest.mark.parametrize("salt", [0, pytest.param(1, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("exhausted", ["best", "last", "fail"])
@pytest.mark.parametrize("proposals", [2, 3, "auto"])
def test_drafting_at_once_has_the_same_law(salt, exhausted, proposals):
    policy, reward = ToyPolicy(2, salt), ToyReward(salt)
    strategy = Cards(
        segmenter=FixedSize(1),
        threshold=Line(target=0.6),
        acceptance=SoftAcceptance(beta=0.7),
        max_tokens=2,
        max_tries=3,
        when_exhausted=exhausted,
        proposals=proposals,
    )
    case = Setting(
        bar=line(reward.value, 0.6, 0.5, 2),
        accept=soft(0.7),
        size=1,
        max_tokens=2,
        tries=3,
        exhausted=exhausted,
    )
    assert distance(cards_law(strategy, policy, reward), case.law(policy, reward.value)) < 1e-12


@pytest.mark.parametrize("salt", range(3))
@pytest.mark.parametrize("max_tries", [1, 5, 12])
def test_drafting_at_once_draws_the_same(salt, max_tries):
    policy, reward = ToyPolicy(7, salt), ToyReward(salt)

    def answer(proposals, seed):
        run = Run(policy, reward, Key(seed))
        strategy = Cards(
            segmenter=Uncertain(1.75, 4),
            threshold=Line(target=1.4),
            acceptance=SoftAcceptance(beta=0.3),
            max_tokens=20,
            max_tries=max_tries,
            proposals=proposals,
        )
        candidate = asyncio.run(strategy.sample(PROMPT, run))
        return candidate, run.trace.proposals, run.trace.committed

    for seed in range(12):
        alone = answer(1, seed)
        assert all(answer(m, seed) == alone for m in (2, 3, 8, "auto"))

"""Arithmetic sampling as a strategy: the law of each answer, their spread, and what is refused."""

import asyncio
import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from fractions import Fraction

import pytest
from selector_law import PROMPT, first_word

from rsalign import ArithmeticSampling, ConfigError, Key, Plain, Run, Sampling
from rsalign.core import codes
from rsalign.core.codes import Code, CodeBook, with_code
from rsalign.selectors import ByWeight, Hard, MajorityVote, MinimumBayesRisk, Soft
from rsalign.selectors.utilities import Rouge1
from rsalign.testing import ToyPolicy, ToyReward, distance, law_of, responses

LONGEST = 3
VOTE = MajorityVote(extract=first_word, ties="first")


def intervals(policy):
    """Every response with the interval of codes that draws it, in the order of token ids."""
    ends, found = 0.0, []
    for tokens, p in sorted(responses(policy, PROMPT.tokens, LONGEST).items()):
        found.append((ends, ends + p, tokens))
        ends += p
    return found


def at(found, code):
    return next(tokens for low, high, tokens in found if code < high or high == found[-1][1])


def pieces(policy, n):
    """The pieces of [0, 1) on which the angle decides alike, as (middle, length)."""
    cuts = {0.0, 1.0}
    for low, high, _ in intervals(policy):
        cuts |= {(edge - i / n) % 1.0 for edge in (low, high) for i in range(n)}
    ordered = sorted(cuts)
    for low, high in itertools.pairwise(ordered):
        if high - low > 1e-13:
            yield (low + high) / 2, high - low


def joint_law(strategy, policy, monkeypatch):
    """The exact law of the answer and of all candidates: the angle is uniform."""
    answers, pools = defaultdict(float), defaultdict(float)
    for angle, mass in pieces(policy, strategy.n):
        monkeypatch.setattr(CodeBook, "code", lambda book, i, a=angle: (a + i / book.n) % 1.0)
        run = Run(policy, ToyReward(), Key(0))
        answers[asyncio.run(strategy.sample(PROMPT, run)).tokens] += mass
        pools[tuple(p.candidate.tokens for p in run.trace.proposals)] += mass
    return answers, pools


@pytest.mark.parametrize("salt", range(2))
@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_law(n, salt, monkeypatch):
    policy = ToyPolicy(3, salt)
    strategy = ArithmeticSampling(n=n, select=VOTE, max_tokens=LONGEST)
    answers, pools = joint_law(strategy, policy, monkeypatch)
    base, found = responses(policy, PROMPT.tokens, LONGEST), intervals(policy)
    for i in range(n):  # each sample alone has the law of the policy
        one = defaultdict(float)
        for pool, mass in pools.items():
            one[pool[i]] += mass
        assert distance(one, base) < 1e-12
    expected = defaultdict(float)  # the vote, from the intervals of whole responses
    for angle, mass in pieces(policy, n):
        drawn = [at(found, (angle + i / n) % 1.0) for i in range(n)]
        words = [first_word(policy.text(y)) for y in drawn]
        able = [word for word in words if word is not None] or [None]
        best = max(dict.fromkeys(able), key=able.count)
        voters = [y for y, word in zip(drawn, words, strict=True) if word == best]
        expected[max(voters, key=ToyReward().value)] += mass
    assert distance(answers, expected) < 1e-12


def test_spread(monkeypatch):
    """Of n samples those before any text are as many as expected, to less than one."""
    policy, n = ToyPolicy(3, 1), 5
    strategy = ArithmeticSampling(n=n, select=VOTE, max_tokens=LONGEST)
    _, pools = joint_law(strategy, policy, monkeypatch)
    for pool in pools:
        seen, below, expected = Counter(pool), 0, 0.0
        for low, high, tokens in intervals(policy):
            below, expected = below + seen[tokens], expected + n * (high - low)
            assert abs(below - expected) < 1


def variance(pools, n, answer, policy):
    """Of the share of an answer among the samples."""
    shares = [
        (sum(first_word(policy.text(y)) == answer for y in pool) / n, mass)
        for pool, mass in pools.items()
    ]
    mean = sum(share * mass for share, mass in shares)
    return sum((share - mean) ** 2 * mass for share, mass in shares), mean


def test_the_variance_of_a_share_is_smaller(monkeypatch):
    """That of n independent draws is p (1 - p) / n."""
    policy, n = ToyPolicy(3, 1), 5
    strategy = ArithmeticSampling(n=n, select=VOTE, max_tokens=LONGEST)
    _, pools = joint_law(strategy, policy, monkeypatch)
    for answer in ("1", "2"):
        found, p = variance(pools, n, answer, policy)
        assert found < 0.5 * p * (1 - p) / n


def test_a_spent_code_leaves_the_law_exact(monkeypatch):
    """Where a code has no bits left, the keys draw: enumerated with codes that are soon spent."""
    monkeypatch.setattr("rsalign.testing.toy.SPENT", 0.5)
    policy = ToyPolicy(2, 0)
    total = defaultdict(float)
    for angle, mass in pieces(policy, 1):
        monkeypatch.setattr(CodeBook, "code", lambda book, i, a=angle: a)
        coded = with_code(policy, Code(CodeBook(n=1, seed=0), 0))
        for tokens, p in law_of(Plain(max_tokens=LONGEST), coded, ToyReward(), PROMPT).items():
            total[tokens] += mass * p
    assert distance(total, responses(policy, PROMPT.tokens, LONGEST)) < 1e-12


@pytest.mark.parametrize("select", [Hard(), Soft(temperature=1.0), ByWeight()], ids=repr)
def test_extremes_are_refused_with_the_reason(select):
    with pytest.raises(ConfigError, match=r"looks for an extreme .* BestOf"):
        ArithmeticSampling(select=select)


def test_means_are_taken():
    assert ArithmeticSampling(select=MinimumBayesRisk(utility=Rouge1())).needs_reward is False


class Codeless(ToyPolicy):
    """Cannot draw by codes."""

    with_code = None


def test_a_policy_without_codes_is_refused_by_name():
    strategy = ArithmeticSampling(n=2, select=VOTE)
    with pytest.raises(ConfigError, match="Codeless cannot draw by the codes"):
        asyncio.run(strategy.sample(PROMPT, Run(Codeless(), ToyReward(), Key(0))))


@dataclass(frozen=True)
class Greedy(ToyPolicy):
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0))

    def with_code(self, code):
        raise AssertionError("a code has nothing to decide")


@pytest.mark.parametrize("n", [1, 3])
def test_one_possible_answer_is_drawn_once_without_a_code(n):
    run = Run(Greedy(), ToyReward(), Key(0))
    asyncio.run(ArithmeticSampling(n=n, select=VOTE).sample(PROMPT, run))
    assert len(run.trace.proposals) == 1


def test_decoding_is_exact():
    """A code of whole numbers, token by token, against its interval in fractions."""
    probs = (0.25, 0.0, 0.5, 0.25)
    for i in range(64):
        place, low, length = i / 64, Fraction(0), Fraction(1)
        for _ in range(3):
            token, place = codes.decode(place, probs)
            low += length * sum(map(Fraction, probs[:token]))
            length *= Fraction(probs[token])
        assert low <= Fraction(i, 64) < low + length


# planted mistakes


def test_planted_mistakes(monkeypatch):
    """A place that is not made relative to its interval is noticed."""
    policy, base = ToyPolicy(3, 0), responses(ToyPolicy(3, 0), PROMPT.tokens, LONGEST)
    right = codes.decode

    def not_relative(place, probs):
        return right(place, probs)[0], place

    monkeypatch.setattr("rsalign.testing.toy.decode", not_relative)
    strategy = ArithmeticSampling(n=2, select=VOTE, max_tokens=LONGEST)
    _, pools = joint_law(strategy, policy, monkeypatch)
    first = defaultdict(float)
    for pool, mass in pools.items():
        first[pool[0]] += mass
    assert distance(first, base) > 1e-2


def test_draws_depend_on_the_key_alone():
    strategy = ArithmeticSampling(n=4, select=VOTE, max_tokens=LONGEST)
    runs = [Run(ToyPolicy(3), ToyReward(), Key(seed)) for seed in (0, 0, 1)]
    for run in runs:
        asyncio.run(strategy.sample(PROMPT, run))
    pools = [[p.candidate.tokens for p in run.trace.proposals] for run in runs]
    assert pools[0] == pools[1] != pools[2]

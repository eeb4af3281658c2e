"""Allocation of draws across prompts, against the rules followed on every sequence of draws."""

import asyncio
import functools
import itertools
import math
from collections import Counter
from dataclasses import dataclass, replace

import pytest
from selector_law import first_word

from rsalign import Aligner, BestOf, ConfigError, Key, MajorityVote, Message, Plain, Prompt, Run
from rsalign.allocation import Blend, ByAcceptance, Drawn, Uniform, Unsolved
from rsalign.allocation.board import Board
from rsalign.core.errors import StrategyError
from rsalign.core.tasks import concurrently
from rsalign.core.types import Stop
from rsalign.strategies.allocated import Allocated, Seated, seat
from rsalign.testing import ToyPolicy, ToyReward, distance, law, responses

PROMPTS = (Prompt((Message("user", "1"),), (1,)), Prompt((Message("user", "1 1"),), (1, 1)))
VOTE = BestOf(n=2, inner=Plain(max_tokens=2), select=MajorityVote(extract=first_word))


@functools.cache
def halves_test(leader, rival):
    """The p-value of the sequential test, by a sum over a fine grid of shares above 1/2."""
    step = 0.5 / 4000
    shares = [0.5 + step * (i + 0.5) for i in range(4000)]
    mean = sum((2 * p) ** leader * (2 * (1 - p)) ** rival for p in shares) * step
    return min(1.0, 1 / (2 * mean))


def beta(leader, rival):
    """P(p > 1/2) under Beta(leader + 1, rival + 1): a binomial tail."""
    n = leader + rival + 1
    return sum(math.comb(n, j) for j in range(rival + 1, n + 1)) / 2**n


def urgency_of(rule, answers, rewards):
    n = len(answers)
    if isinstance(rule, Uniform):
        return -n
    if isinstance(rule, Blend):
        counts = sorted(Counter(a for a in answers if a is not None).values(), reverse=True)
        leader, rival = ([*counts, 0, 0])[:2]
        return (1 - beta(leader, rival) + halves_test(max(0, leader - 1), rival)) / 2
    passed = sum(r >= rule.threshold for r in rewards)
    if isinstance(rule, Unsolved):
        return -n if passed else 1 / (n + 2)
    return 1 / math.sqrt((passed + 1) / (n + 2)) / (2 * n + 1)


def winner(policy, reward, pool):
    answers = [first_word(policy.text(y)) for y in pool]
    able = [a for a in dict.fromkeys(answers) if a is not None] or [None]

    def standing(answer):
        mine = [y for y, a in zip(pool, answers, strict=True) if a == answer]
        return len(mine), math.fsum(map(reward.value, mine))

    best = max(able, key=standing)
    return max((y for y, a in zip(pool, answers, strict=True) if a == best), key=reward.value)


def follow(rule, policy, reward, sequences, total):
    """How many draws each prompt gets, one decision at a time."""
    k = [1, 1]
    while sum(k) < total:
        urgencies = [
            urgency_of(
                rule,
                [first_word(policy.text(y)) for y in one[:n]],
                [reward.value(y) for y in one[:n]],
            )
            for one, n in zip(sequences, k, strict=True)
        ]
        k[0 if urgencies[0] >= urgencies[1] else 1] += 1
    return tuple(k)


CASES = [(Uniform(), 4, 2), (Blend(), 4, 2), (Unsolved(threshold=0.2), 4, 2)]
CASES += [(ByAcceptance(threshold=0.2), 4, 2), (ByAcceptance(threshold=0.2), 5, 1)]


@pytest.mark.parametrize(
    ("rule", "total", "max_tokens"), CASES, ids=lambda one: str(one).partition("(")[0]
)
def test_the_law_of_two_prompts_that_share_few_draws(rule, total, max_tokens):
    policy, reward = ToyPolicy(2, 5), ToyReward(5)
    bases = [responses(policy, prompt.tokens, max_tokens) for prompt in PROMPTS]
    assert {reward.value(y) >= 0.2 for y in bases[0]} == {True, False}
    expected = Counter()
    for first in itertools.product(bases[0], repeat=total - 1):
        for second in itertools.product(bases[1], repeat=total - 1):
            mass = math.prod(bases[0][y] for y in first) * math.prod(bases[1][y] for y in second)
            k = follow(rule, policy, reward, (first, second), total)
            pools = first[: k[0]], second[: k[1]]
            expected[(k, *(winner(policy, reward, pool) for pool in pools))] += mass

    async def both(key):
        inner = replace(VOTE, inner=Plain(max_tokens=max_tokens))
        strategy = Allocated(inner=inner, rule=rule, total=total, batch=1)
        runs = [Run(policy, reward, key.child(i)) for i in range(2)]
        seats = seat([strategy, strategy])
        answers = await concurrently(
            one.sample(prompt, run) for one, prompt, run in zip(seats, PROMPTS, runs, strict=True)
        )
        k = tuple(run.trace.notes["num_draws"] for run in runs)
        assert sum(k) == total  # what is spent is the total, on every path
        return (k, *(answer.tokens for answer in answers))

    exact = law(both)
    assert distance(exact, expected) < 1e-12
    if not isinstance(rule, Uniform) and (rule, total) != (ByAcceptance(threshold=0.2), 4):
        assert len({k for k, *_ in exact}) > 1


@dataclass(frozen=True)
class Slow(ToyPolicy):
    """The same draws; some take longer than others, by their address."""

    async def extend(self, prefix, *, max_new_tokens, key, boundary=None):
        for _ in range(key.child("delay").below(9)):
            await asyncio.sleep(0)
        return await ToyPolicy.extend(
            self, prefix, max_new_tokens=max_new_tokens, key=key, boundary=boundary
        )


class Watched:
    """A rule that keeps all it is shown."""

    needs_answers = True
    needs_reward = True

    def __init__(self):
        self.seen = []

    def urgency(self, drawn):
        self.seen.append(drawn)
        return Blend().urgency(drawn)


TEXTS = ["1 2", "2 1 1", "1", "2 2 2", "1 1"]


@pytest.mark.parametrize("batch", [1, 2, None])
def test_a_rule_sees_what_was_paid_for_and_nothing_depends_on_what_is_faster(batch):
    results = []
    for policy in (ToyPolicy(), Slow()):
        rule = Watched()
        strategy = Allocated(inner=VOTE, rule=rule, total=17, batch=batch)
        with Aligner(policy, ToyReward(), strategy) as aligner:
            outputs = aligner.generate(TEXTS, use_tqdm=False)
            pools = [one.alignment.diagnostics["rewards"] for one in outputs]
            for drawn in rule.seen:
                assert any(drawn.rewards == pool[: len(drawn.rewards)] for pool in pools)
                assert len(drawn.answers) == len(drawn.rewards) >= 1
                assert drawn.promised <= (batch or len(TEXTS))
            assert sum(map(len, pools)) == 17
            for i, (one, pool) in enumerate(zip(outputs, pools, strict=True)):
                assert one.alignment.usage.policy_requests == len(pool)
                same = BestOf(n=len(pool), inner=VOTE.inner, select=VOTE.select)
                alone = aligner.generate(TEXTS, strategy=same, use_tqdm=False)[i]
                assert alone.outputs[0] == one.outputs[0]
        results.append((rule.seen, pools))
    assert results[0] == results[1]
    assert len({len(pool) for pool in results[0][1]}) > 1


def test_the_rest_of_a_total_goes_to_the_others_when_a_prompt_fails():
    class Failing(ToyReward):
        async def score(self, prompt, response):
            if prompt.tokens == (1,):
                raise RuntimeError("no such model")
            return self.value(response.tokens)

    with Aligner(ToyPolicy(), Failing(), VOTE) as aligner:
        outputs = aligner.generate(
            TEXTS, use_tqdm=False, on_error="return", allocation={"rule": "uniform", "total": 13}
        )
    assert [one.error is not None for one in outputs] == [False, False, True, False, False]
    drawn = [one.alignment.diagnostics["num_draws"] for one in outputs if one.error is None]
    assert drawn == [3, 3, 3, 3]  # and the failed prompt had paid for one


def test_one_possible_answer_is_drawn_once_and_no_prompt_waits_for_it():
    class Certain(ToyPolicy):
        @property
        def sampling(self):
            from rsalign.core.types import Sampling

            return Sampling(temperature=0)

    strategy = Allocated(inner=VOTE, total=9)
    with Aligner(Certain(), ToyReward(), strategy) as aligner:
        outputs = aligner.generate(TEXTS, use_tqdm=False)
    assert [one.alignment.diagnostics["num_draws"] for one in outputs] == [1] * 5


def test_alone_it_is_best_of_n():
    run = Run(ToyPolicy(), ToyReward(), Key(3))
    alone = Run(ToyPolicy(), ToyReward(), Key(3))
    answer = asyncio.run(Allocated(inner=VOTE).sample(PROMPTS[0], run))
    assert answer == asyncio.run(VOTE.sample(PROMPTS[0], alone))
    assert answer.response.stop in (Stop.EOS, Stop.LENGTH)


@pytest.mark.parametrize(
    ("allocation", "said"),
    [
        ({"total": 4}, "total of at least 5"),
        ("blnd", "did you mean 'blend'"),
        (3, "give an Allocation"),
        ({"rule": "blend", "inner": BestOf()}, "reads no answers"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_drawn(allocation, said):
    with (
        Aligner(ToyPolicy(), ToyReward(), BestOf(n=2)) as aligner,
        pytest.raises(ConfigError, match=said),
    ):
        aligner.generate(TEXTS, allocation=allocation, use_tqdm=False)


def test_a_rule_that_returns_no_number_is_named():
    class Broken:
        def urgency(self, drawn):
            return math.nan

    with (
        Aligner(ToyPolicy(), ToyReward(), VOTE) as aligner,
        pytest.raises(StrategyError, match=r"Broken\.urgency returned nan"),
    ):
        aligner.generate(TEXTS, allocation=Broken(), use_tqdm=False)


def test_a_prompt_that_was_never_accepted_is_drawn_again():
    """The published allocation gives 0 of 8 no draw at all."""
    rule = ByAcceptance(threshold=0.5)
    hard, easy = Drawn((None,) * 8, (0.0,) * 8), Drawn((None,) * 8, (1.0,) * 8)
    assert rule.urgency(hard) == pytest.approx(3 * rule.urgency(easy))
    board = Board(rule, total=40, places=2, at_least=8, batch=1)

    async def prompt(place):
        rewards = ()
        while granted := await board.more(place, Drawn((None,) * len(rewards), rewards)):
            rewards += (float(place),) * granted
        return len(rewards)

    async def both():
        return await concurrently([prompt(0), prompt(1)])

    counts = asyncio.run(both())
    assert sum(counts) == 40
    assert counts == [32, 8]  # up to 1 / sqrt(1 / 34) to 1 / sqrt(9 / 10), or 44 to 8


def test_it_declares_what_its_strategy_declares():
    strategy = Allocated(inner=BestOf(n=2))
    (one,) = seat([strategy])
    assert isinstance(one, Seated)
    assert (one.needs_reward, one.cuts_answers, one.trace_kind) == (True, False, "pool")


@pytest.mark.parametrize("votes", ["3", "33", "334", "33345", "3333444", ""])
def test_the_doubt_of_a_vote(votes):
    answers = (*votes, None)
    drawn = Drawn(answers, (0.0,) * len(answers))
    assert Blend().urgency(drawn) == pytest.approx(urgency_of(Blend(), answers, ()), abs=1e-6)

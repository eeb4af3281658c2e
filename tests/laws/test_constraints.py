"""What a constraint excludes has probability 0 in every law; closed forms from the toy tables."""

import asyncio
import itertools
import math
from collections import defaultdict
from dataclasses import dataclass, replace

import pytest
from chain_law import PROMPT, Space, drift, imbalance
from test_strategies_conform import EXAMPLES, PARTS, SELECTIONS

from rsalign import (
    BestOf,
    Budget,
    Constrained,
    Constraint,
    FixedSize,
    Matching,
    Plain,
    Response,
    Stop,
    TargetKL,
    Without,
    align,
)
from rsalign.core.key import Key
from rsalign.core.run import Run
from rsalign.core.types import Candidate, Scored
from rsalign.segments.acceptance import SoftAcceptance
from rsalign.segments.thresholds import Constant
from rsalign.selectors import Soft
from rsalign.strategies.cards import Cards, TriesExhaustedError
from rsalign.strategies.power import Power
from rsalign.strategies.qalign import QAlign
from rsalign.strategies.quest import Quest
from rsalign.strategies.rejection import Rejection
from rsalign.testing import (
    EOS,
    ToyPolicy,
    ToyReward,
    check_constraint,
    check_strategy,
    distance,
    law,
    law_of,
    responses,
)

ABSTAINED = ()
SALTS = range(2)


@dataclass(frozen=True)
class Legal:
    """Never 2 after 2; a complete answer has a 1. The second is known at the end only."""

    async def allows(self, prompt, response):
        return legal(response.tokens, complete=response.complete)


class Nothing:
    async def allows(self, prompt, response):
        return False


def legal(tokens, complete=True):
    repeats = any(a == b == 2 for a, b in itertools.pairwise(tokens))
    return not repeats and (not complete or 1 in tokens)


def toys(salt, vocab=3):
    return ToyPolicy(vocab, salt), Constrained(ToyReward(salt), Legal()), ToyReward(salt).value


def expected_choice(base, n, choose):
    """The law of `choose` among the allowed of n draws; ABSTAINED if there is none."""
    found = defaultdict(float)
    for pool in itertools.product(base, repeat=n):
        mass = math.prod(base[y] for y in pool)
        allowed = [y for y in pool if legal(y)]
        for y, p in (choose(allowed) if allowed else {ABSTAINED: 1.0}).items():
            found[y] += mass * p
    return found


@pytest.mark.parametrize("salt", SALTS)
def test_a_plain_draw_is_allowed_or_there_is_no_answer(salt):
    policy, reward, _ = toys(salt)
    base = responses(policy, PROMPT.tokens, 3)
    found = law_of(Plain(max_tokens=3), policy, reward, PROMPT)
    wanted = expected_choice(base, 1, lambda pool: {pool[0]: 1.0})
    assert 0 < found[ABSTAINED] < 1
    assert distance(found, wanted) < 1e-12


@pytest.mark.parametrize("salt", SALTS)
def test_best_of_n_is_the_best_of_the_allowed(salt):
    policy, reward, value = toys(salt)
    base = responses(policy, PROMPT.tokens, 2)
    found = law_of(BestOf(n=3, inner=Plain(max_tokens=2)), policy, reward, PROMPT)
    assert distance(found, expected_choice(base, 3, lambda p: {max(p, key=value): 1.0})) < 1e-12


def test_soft_best_of_n_gives_the_excluded_no_weight():
    policy, reward, value = toys(0)
    base = responses(policy, PROMPT.tokens, 2)

    def soft(pool):
        found = defaultdict(float)
        total = sum(math.exp(value(y) / 0.5) for y in pool)
        for y in pool:
            found[y] += math.exp(value(y) / 0.5) / total
        return found

    strategy = BestOf(n=2, inner=Plain(max_tokens=2), select=Soft(temperature=0.5))
    assert (
        distance(law_of(strategy, policy, reward, PROMPT), expected_choice(base, 2, soft)) < 1e-12
    )


@pytest.mark.parametrize("select", SELECTIONS, ids=repr)
def test_no_selector_chooses_what_is_excluded(select):
    policy, reward, _ = toys(1)
    base = responses(policy, PROMPT.tokens, 2)
    illegal = sum(p for y, p in base.items() if not legal(y))
    found = law_of(BestOf(n=2, inner=Plain(max_tokens=2), select=select), policy, reward, PROMPT)
    assert all(y == ABSTAINED or legal(y) for y, p in found.items() if p)
    assert found[ABSTAINED] == pytest.approx(illegal**2, abs=1e-12)


@pytest.mark.parametrize("salt", SALTS)
def test_rejection_accepts_and_forces_only_what_is_allowed(salt):
    policy, reward, value = toys(salt)
    base = responses(policy, PROMPT.tokens, 2)
    beta, bound = 0.8, 1.0
    accept = {y: min(1.0, math.exp((value(y) - bound) / beta)) * legal(y) for y in base}
    rejects = {y: base[y] * (1 - accept[y]) for y in base}
    wanted = defaultdict(float)
    for y in base:
        wanted[y] += base[y] * accept[y] * (1 + sum(rejects.values()))
    for pair in itertools.product(base, repeat=2):
        allowed = [y for y in pair if legal(y)]
        weights = [math.exp(value(y) / beta) for y in allowed]
        mass = math.prod(rejects[y] for y in pair)
        for y, weight in zip(allowed, weights, strict=True):
            wanted[y] += mass * weight / sum(weights)
        if not allowed:
            wanted[ABSTAINED] += mass
    strategy = Rejection(beta=beta, bound=bound, max_tokens=2, max_draws=2, at_once=1)
    assert distance(law_of(strategy, policy, reward, PROMPT), wanted) < 1e-12


@pytest.mark.parametrize("salt", SALTS)
@pytest.mark.parametrize("when_exhausted", ["best", "last"])
def test_cards_forces_only_what_is_allowed_and_ends_where_nothing_is(salt, when_exhausted):
    policy, reward, value = toys(salt)
    beta, threshold, longest = 0.6, 0.5, 3

    def over(y):
        return y[-1] == EOS or len(y) == longest

    def grow(kept, mass, found):
        probs = policy.probs(PROMPT.tokens + kept)
        drafts = {(*kept, token): p for token, p in enumerate(probs)}
        allowed = {y: legal(y, complete=over(y)) for y in drafts}
        accept = {y: min(1.0, math.exp((value(y) - threshold) / beta)) * allowed[y] for y in drafts}
        left = {y: p * (1 - accept[y]) for y, p in drafts.items()}
        after = defaultdict(float)
        for y, p in drafts.items():
            after[y] += p * accept[y] * (1 + sum(left.values()))
        for pair in itertools.product(drafts, repeat=2):
            forced = [y for y in pair if allowed[y]]
            chosen = None
            if forced:
                chosen = forced[-1] if when_exhausted == "last" else max(forced, key=value)
            after[chosen] += math.prod(left[y] for y in pair)
        for y, p in after.items():
            if y is None:
                found["abstained", kept] += mass * p
            elif over(y):
                found["answer", y] += mass * p
            else:
                grow(y, mass * p, found)
        return found

    strategy = Cards(
        segmenter=FixedSize(1),
        threshold=Constant(value=threshold),
        acceptance=SoftAcceptance(beta=beta),
        max_tokens=longest,
        max_tries=2,
        when_exhausted=when_exhausted,
    )

    async def answer(key):
        given = await strategy.sample(PROMPT, Run(policy, reward, key))
        return "abstained" if given.abstained else "answer", given.tokens

    wanted = grow((), 1.0, defaultdict(float))
    assert any(kind == "abstained" for kind, _ in wanted)
    assert distance(law(answer), wanted) < 1e-12


class Allowed(Space):
    """The states of a toy, of which some are excluded."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.reward = Constrained(self.reward, Legal())

    def state(self, tokens):
        state = super().state(tokens)
        return state if legal(tokens) else replace(state, reward=Scored(0.0, excluded=True))


@pytest.mark.parametrize(
    "chain",
    [
        QAlign(beta=0.7, max_tokens=2),
        QAlign(beta=0.7, max_tokens=2, candidates=2, combine="i_sir", restart=0.3),
        Quest(beta=0.7, max_tokens=2),
        Power(alpha=2.0, max_tokens=2),
    ],
    ids=repr,
)
@pytest.mark.parametrize("salt", SALTS)
def test_a_chain_keeps_the_target_among_the_allowed(chain, salt):
    space = Allowed(salt=salt)
    log_weight = chain.log_weight(())
    target = space.tilted(lambda y: -math.inf if y.excluded else log_weight(y))

    async def step(state, run):
        return (await chain.step(PROMPT, state, run)).state

    matrix = space.matrix(step)
    assert imbalance(target, matrix) < 1e-12
    assert drift(target, matrix) < 1e-12
    outside = [i for i, state in enumerate(space.states) if state.excluded]
    inside = [i for i, state in enumerate(space.states) if not state.excluded]
    assert outside
    assert inside
    assert matrix[inside][:, outside].max() == 0  # it never leaves what is allowed
    assert matrix[outside][:, inside].sum(1).min() > 0  # and finds it from everywhere


@pytest.mark.parametrize("pool", [None, 2])
def test_a_chain_with_nothing_allowed_abstains(pool):
    policy, reward, _ = toys(0)
    base = responses(policy, PROMPT.tokens, 2)
    illegal = sum(p for y, p in base.items() if not legal(y))
    # the second draw is a proposal at the cut 0, or the second of the pool
    strategy = QAlign(steps=1, beta=0.7, max_tokens=2, pool=pool, restart=1.0)
    found = law_of(strategy, policy, reward, PROMPT)
    assert all(y == ABSTAINED or legal(y) for y, p in found.items() if p)
    assert found[ABSTAINED] == pytest.approx(illegal ** (3 if pool else 2), abs=1e-12)


def test_a_rule_for_beta_sees_allowed_rewards_only():
    policy, reward, _ = toys(0)
    strategy = QAlign(steps=1, beta=TargetKL(nats=0.1), max_tokens=1, pool=3)

    async def find(key):
        run = Run(policy, reward, key)
        given = await strategy.sample(PROMPT, run)
        return given.abstained, run.trace.notes.get("beta", 0) == 0

    # without a beta there is no answer, and the reverse
    assert {(True, True), (False, False)} == {one for one, p in law(find).items() if p}


@pytest.mark.parametrize("strategy", EXAMPLES, ids=repr)
def test_every_strategy_under_a_constraint(strategy):
    policy, reward, _ = toys(2, vocab=4)
    asyncio.run(check_strategy(strategy, PROMPT, policy, reward, eos=EOS, parts=PARTS))
    for seed in range(4):
        result = asyncio.run(
            align(PROMPT, strategy, policy=policy, reward=reward, seed=seed, parts=PARTS)
        )
        tokens = result.candidate.tokens
        assert result.abstained or legal(tokens)
        assert result.judged != result.abstained
    never = Constrained(ToyReward(), Nothing())
    nothing = asyncio.run(align(PROMPT, strategy, policy=policy, reward=never, parts=PARTS))
    assert nothing.abstained
    assert nothing.candidate.tokens == nothing.trace.committed == ()
    assert "allow" in nothing.candidate.response.stop_reason
    assert any("there is no answer" in warning for warning in nothing.warnings)


@pytest.mark.parametrize("strategy", EXAMPLES, ids=repr)
@pytest.mark.parametrize(
    "budget",
    [Budget(policy_tokens=7), Budget(reward_calls=1), Budget(policy_tokens=9, completion_tokens=4)],
    ids=["tokens", "calls", "completion"],
)
def test_a_budget_shows_nothing_that_was_not_allowed(strategy, budget):
    policy, reward, _ = toys(2, vocab=4)
    for seed in range(3):
        how = {"policy": policy, "reward": reward, "seed": seed, "budget": budget, "parts": PARTS}
        result = asyncio.run(align(PROMPT, strategy, **how))
        response = result.candidate.response
        assert result.abstained or legal(response.tokens, complete=response.complete)


def test_a_strategy_that_ignores_exclusion_gives_no_excluded_answer():
    class Careless:
        async def sample(self, prompt, run):
            return await run.draft(prompt, (), max_tokens=3)

    policy, reward, _ = toys(0)
    results = [
        asyncio.run(align(PROMPT, Careless(), policy=policy, reward=reward, seed=seed))
        for seed in range(20)
    ]
    assert {result.abstained for result in results} == {True, False}
    assert all(result.abstained or legal(result.candidate.tokens) for result in results)


def test_cards_that_must_not_force_names_the_constraint():
    strategy = Cards(
        segmenter=FixedSize(1), threshold=Constant(value=0.0), max_tries=2, when_exhausted="fail"
    )
    run = Run(ToyPolicy(), Constrained(ToyReward(), Nothing()), Key(0))
    with pytest.raises(TriesExhaustedError, match="none is allowed"):
        asyncio.run(strategy.sample(PROMPT, run))


EXAMPLE_ANSWERS = [
    (PROMPT, Response(tokens, ToyPolicy(3).text(tokens), Stop.EOS))
    for tokens in ((1, 0), (2, 1, 0), (2, 2, 1, 0), (2, 0), (1, 2, 1, 2, 0))
]


@pytest.mark.parametrize("constraint", [Legal(), Without(["2 2", "2 0"]), Matching("(2 )?1( 2)*")])
def test_constraints_conform(constraint):
    assert isinstance(constraint, Constraint)
    asyncio.run(check_constraint(constraint, EXAMPLE_ANSWERS, ToyPolicy(3).text))


class ForgetsThePrefix:
    """Wrong on purpose: says no to a beginning that can still become allowed."""

    async def allows(self, prompt, response):
        return 1 in response.tokens


class Unsteady:
    """Wrong on purpose: another answer each time."""

    calls = 0

    async def allows(self, prompt, response):
        self.calls += 1
        return bool(self.calls % 2)


class Vague:
    """Wrong on purpose: neither True nor False."""

    async def allows(self, prompt, response):
        return 1


@pytest.mark.parametrize("wrong", [ForgetsThePrefix(), Unsteady(), Vague(), Nothing()])
def test_wrong_constraints_are_caught(wrong):
    with pytest.raises(AssertionError):
        asyncio.run(check_constraint(wrong, EXAMPLE_ANSWERS, ToyPolicy(3).text))


def test_a_candidate_says_whether_it_is_excluded():
    response = Response((1, 0), "1", Stop.EOS)
    assert Candidate(response, Scored(0.0, excluded=True)).excluded
    assert not Candidate(response, 0.0).excluded
    assert not Candidate(response, Scored(-1e300)).excluded

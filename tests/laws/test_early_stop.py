"""The law of early stopping, against the rule followed on every sequence of draws."""

import asyncio
import itertools
import math

import pytest
from selector_law import PROMPT, first_word

from rsalign import BestOf, ConfigError, Key, Plain, Run
from rsalign.selectors import Hard, MajorityVote, RewardWeightedVote, SelfCertainty
from rsalign.selectors.extraction import LastNumber
from rsalign.selectors.protocol import certain
from rsalign.strategies.early_stop import EarlyStop
from rsalign.testing import ToyPolicy, ToyReward, distance, law_of, responses

INNER = Plain(max_tokens=2)


VOTE = MajorityVote(extract=first_word)
SETTINGS = [
    {"n": 4, "share": 0.6, "at_least": 1, "batch": 1},
    {"n": 4, "share": 1.0, "at_least": 2, "batch": 1},
    {"n": 4, "share": 0.6, "at_least": 2, "batch": 1},
    {"n": 4, "share": 0.5, "at_least": 2, "batch": 2},
    {"n": 3, "share": 0.7, "at_least": 2, "batch": 9},
    {"n": 3, "share": 0.3, "at_least": 3, "batch": 1},
    {"n": 2, "share": 0.3, "at_least": 9, "batch": 1},
]


def stops_at(answers, n, share, at_least, batch):
    """How many of a sequence of answers are drawn."""
    first = max(at_least, batch)
    looks = [*range(first, n, batch), n]
    for k in looks:
        counts = {a: answers[:k].count(a) for a in answers[:k] if a is not None}
        if k >= n or max(counts.values(), default=0) / k >= share:
            return min(k, n)
    raise AssertionError("n is the last look")


def winner(policy, reward, pool):
    """The majority's representative: ties by total reward, then by the highest reward."""
    answers = [first_word(policy.text(y)) for y in pool]
    able = [a for a in dict.fromkeys(answers) if a is not None] or [None]

    def standing(answer):
        mine = [y for y, a in zip(pool, answers, strict=True) if a == answer]
        return len(mine), math.fsum(map(reward.value, mine))

    best = max(able, key=standing)
    return max((y for y, a in zip(pool, answers, strict=True) if a == best), key=reward.value)


@pytest.mark.parametrize("salt", [0, 1])
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_the_law(setting, salt):
    policy, reward = ToyPolicy(3, salt), ToyReward(salt)
    base = responses(policy, PROMPT.tokens, 2)
    expected = dict.fromkeys(base, 0.0)
    for pool in itertools.product(base, repeat=setting["n"]):
        mass = math.prod(base[y] for y in pool)
        k = stops_at([first_word(policy.text(y)) for y in pool], **setting)
        expected[winner(policy, reward, pool[:k])] += mass
    strategy = EarlyStop(inner=INNER, select=VOTE, **setting)
    assert distance(law_of(strategy, policy, reward, PROMPT), expected) < 1e-12


def sample(strategy, seed, policy=None):
    run = Run(policy or ToyPolicy(4), ToyReward(), Key(seed))
    answer = asyncio.run(strategy.sample(PROMPT, run))
    return answer, run.trace


@pytest.mark.parametrize(
    "select",
    [
        VOTE,
        RewardWeightedVote(extract=first_word, temperature=0.5),
        SelfCertainty(extract=first_word, power=1.0),
    ],
)
def test_it_is_the_choice_among_the_first_draws_of_best_of(select):
    lengths = set()
    for seed in range(40):
        early = EarlyStop(n=9, share=0.6, at_least=2, batch=2, inner=INNER, select=select)
        answer, trace = sample(early, seed)
        drawn = trace.notes["num_draws"]
        best, of_n = sample(BestOf(n=drawn, inner=INNER, select=select), seed)
        assert answer == best
        assert trace.proposals == of_n.proposals
        assert trace.notes == {**of_n.notes, "num_draws": drawn}
        assert trace.committed == answer.tokens
        lengths.add(drawn)
    assert len(lengths) > 1


def test_it_stops_as_soon_as_it_may_and_never_later_than_it_must():
    early = EarlyStop(n=12, share=0.5, at_least=3, batch=1, inner=INNER, select=VOTE)
    drawn = [sample(early, seed)[1].notes["num_draws"] for seed in range(30)]
    assert (min(drawn), max(drawn)) == (3, 12)


@pytest.mark.parametrize(
    "wrong",
    [
        {"at_least": 0},
        {"n": 0},
        {"batch": 0},
        {"share": 0.0},
        {"share": 1.1},
        {"share": math.nan},
        {"select": Hard()},
        {"select": MajorityVote},
        {"inner": Plain},
        {"inner": BestOf(), "select": SelfCertainty(extract=first_word)},
    ],
    ids=lambda wrong: "-".join(wrong),
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigError):
        EarlyStop(**{"select": VOTE} | wrong)


def test_each_round_selects_at_an_address_of_its_own():
    """A selector may draw: with one key for all rounds it would draw the same each time."""
    paths = []

    class Undecided:
        extract = LastNumber()
        needs_reward = False

        async def select(self, prompt, candidates, key):
            paths.append(key.path)
            shares = (0.1,) * len(candidates)
            return certain(0, len(candidates), {"vote_shares": shares})

    strategy = EarlyStop(select=Undecided(), n=12, at_least=2, batch=2)
    run = Run(ToyPolicy(3), ToyReward(), Key(0))
    asyncio.run(strategy.sample(PROMPT, run))
    assert len(paths) == len(set(paths)) == 6

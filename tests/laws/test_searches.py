"""Beam, Dvts and EarlyDrop against references that know nothing of their code."""

import itertools
import math
from collections import defaultdict

import pytest
from particle_law import PROMPT

from rsalign import Beam, BestOf, Dvts, EarlyDrop, FixedSize, Plain
from rsalign.populations.search import Search
from rsalign.testing import EOS, ToyPolicy, ToyReward, distance, law_of

LONGEST = 3


def is_complete(answer):
    return answer[-1:] == (EOS,) or len(answer) == LONGEST


def next_tokens(policy, prefixes):
    """All ways in which each prefix can get one more token, with their probabilities."""
    laws = [policy.probs(PROMPT.tokens + prefix) for prefix in prefixes]
    for tokens in itertools.product(*(range(len(one)) for one in laws)):
        drafts = [(*prefix, token) for prefix, token in zip(prefixes, tokens, strict=True)]
        yield drafts, math.prod(one[token] for one, token in zip(laws, tokens, strict=True))


def best(answers, value):
    """The first of highest reward."""
    return max(answers, key=value)


def beam_pools(policy, value, width, branch):
    """P(all complete answers, in order) of a beam with one token a segment, by recursion."""
    pools = defaultdict(float)

    def grow(prefixes, places, pool, mass, copies):
        if not prefixes:
            pools[pool] += mass
            return
        asked = [prefix for prefix in prefixes for _ in range(copies)]
        for drafts, p in next_tokens(policy, asked):
            left, taken = list(drafts), []
            for _ in range(min(places, len(drafts))):
                taken.append(best(left, value))
                left.remove(taken[-1])
            going = [one for one in taken if not is_complete(one)]
            done = tuple(one for one in drafts if is_complete(one))
            grow(going, places - len(taken) + len(going), pool + done, mass * p, branch)

    grow([()], width, (), 1.0, width * branch)
    return pools


def best_of_pools(pools, value):
    law = defaultdict(float)
    for pool, mass in pools.items():
        law[best(pool, value)] += mass
    return law


def drop_pools(policy, value, n, keep, lengths):
    """The same for answers that are dropped at these lengths."""
    pools = defaultdict(float)

    def grow(prefixes, pool, mass):
        if not prefixes:
            pools[pool] += mass
            return
        for drafts, p in next_tokens(policy, prefixes):
            opened = [one for one in drafts if not is_complete(one)]
            done = tuple(one for one in drafts if is_complete(one))
            if opened and len(opened[0]) in lengths:
                order = sorted(opened, key=value, reverse=True)
                opened = order[: math.ceil(keep * len(order))]
            grow(opened, pool + done, mass * p)

    grow([()] * n, (), 1.0)
    return pools


SHAPES = [(1, 2), (2, 1), (2, 2), (1, 3)]


@pytest.mark.parametrize("salt", range(3))
@pytest.mark.parametrize(("width", "branch"), SHAPES)
def test_beam(width, branch, salt):
    policy, value = ToyPolicy(2, salt), ToyReward(salt).value
    beam = Beam(width=width, branch=branch, segmenter=FixedSize(1), max_tokens=LONGEST)
    law = law_of(beam, policy, ToyReward(salt), PROMPT)
    expected = best_of_pools(beam_pools(policy, value, width, branch), value)
    assert distance(law, expected) < 1e-12


@pytest.mark.parametrize("salt", range(3))
@pytest.mark.parametrize(("subtrees", "branch"), [(1, 2), (2, 2)])
def test_dvts(subtrees, branch, salt):
    policy, value = ToyPolicy(2, salt), ToyReward(salt).value
    dvts = Dvts(subtrees=subtrees, branch=branch, segmenter=FixedSize(1), max_tokens=LONGEST)
    law = law_of(dvts, policy, ToyReward(salt), PROMPT)
    one = beam_pools(policy, value, 1, branch)
    pools = defaultdict(float)
    for chosen in itertools.product(one.items(), repeat=subtrees):
        joined = tuple(answer for pool, _ in chosen for answer in pool)
        pools[joined] += math.prod(mass for _, mass in chosen)
    assert distance(law, best_of_pools(pools, value)) < 1e-12


@pytest.mark.parametrize("salt", range(3))
@pytest.mark.parametrize(
    ("n", "keep", "first", "lengths"),
    [(2, 0.5, 1, (1, 2)), (3, 0.5, 1, (1, 2)), (4, 0.3, 2, (2,)), (3, 0.7, 1, (1, 2))],
)
def test_early_drop(n, keep, first, lengths, salt):
    policy, value = ToyPolicy(2, salt), ToyReward(salt).value
    drop = EarlyDrop(n=n, keep=keep, first=first, max_tokens=LONGEST)
    law = law_of(drop, policy, ToyReward(salt), PROMPT)
    expected = best_of_pools(drop_pools(policy, value, n, keep, lengths), value)
    assert distance(law, expected) < 1e-12


@pytest.mark.parametrize("salt", range(2))
def test_keeping_all_is_best_of_n(salt):
    policy, reward = ToyPolicy(2, salt), ToyReward(salt)
    drop = EarlyDrop(n=2, keep=1.0, first=1, max_tokens=LONGEST)
    whole = BestOf(n=2, inner=Plain(max_tokens=LONGEST))
    assert distance(*(law_of(one, policy, reward, PROMPT) for one in (drop, whole))) < 1e-12


# planted mistakes


def test_planted_mistakes(monkeypatch):
    """Finished paths that compete with open ones, or that are drawn again, are noticed."""
    beam = Beam(width=2, branch=2, segmenter=FixedSize(1), max_tokens=LONGEST)
    laws = {salt: beam_law(beam, salt) for salt in range(2)}
    take = Search.take

    def drops_finished(self, drafts, chosen, copies=1):
        take(self, drafts, chosen, copies)
        going = {id(drafts[i]) for i in chosen}
        lost = [one for one in drafts if one.response.complete and id(one) not in going]
        self.complete = [one for one in self.complete if one not in lost] or self.complete

    def keeps_worst(self, drafts, chosen, copies=1):
        worst = sorted(range(len(drafts)), key=lambda i: drafts[i].reward)[: len(chosen)]
        take(self, drafts, worst, copies)

    for wrong in (drops_finished, keeps_worst):
        monkeypatch.setattr(Search, "take", wrong)
        changed = [distance(laws[salt], beam_law(beam, salt)) for salt in laws]
        assert max(changed) > 1e-3


def beam_law(beam, salt):
    return law_of(beam, ToyPolicy(2, salt), ToyReward(salt), PROMPT)


def test_the_first_of_equal_rewards_goes_on():
    class Flat(ToyReward):
        def value(self, tokens):
            return 0.0

    beam = Beam(width=1, branch=2, segmenter=FixedSize(1), max_tokens=LONGEST)
    policy = ToyPolicy(2, 0)
    expected = best_of_pools(beam_pools(policy, lambda _: 0.0, 1, 2), lambda _: 0.0)
    assert distance(law_of(beam, policy, Flat(), PROMPT), expected) < 1e-12

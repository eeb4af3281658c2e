"""DeepConf against a vote over answers whose entropies are known; the rule of confidence."""

import asyncio
import itertools
import math
from collections import defaultdict

import pytest
from selector_law import PROMPT, first_word

from rsalign import ConfigError, DeepConf, Key, LowConfidence, Run
from rsalign.core.types import Stop
from rsalign.segments import segmenters
from rsalign.selectors import MajorityVote, SelfCertainty
from rsalign.testing import ToyPolicy, ToyReward, distance, law_of, responses

VOTE = MajorityVote(extract=first_word)


def means(policy, tokens, window):
    """The mean entropy after each token but the last, from its definition."""
    found, seen = [], []
    for i in range(len(tokens) - 1):
        probs = policy.probs(PROMPT.tokens + tokens[:i])
        seen.append(-sum(p * math.log(p) for p in probs))
        if len(seen) <= window:
            found.append(sum(seen) / len(seen))
        else:
            found.append(found[-1] + (seen[-1] - found[-1]) / window)
    return found


def least(policy, tokens, window):
    return min((-mean for mean in means(policy, tokens, window)[window - 1 :]), default=math.inf)


def winner(policy, reward, pool):
    words = [first_word(policy.text(y)) for y in pool]
    able = [w for w in dict.fromkeys(words) if w is not None] or [None]

    def standing(word):
        mine = [y for y, w in zip(pool, words, strict=True) if w == word]
        return len(mine), math.fsum(map(reward.value, mine))

    best = max(able, key=standing)
    return max((y for y, w in zip(pool, words, strict=True) if w == best), key=reward.value)


def telling_salts(window, longest):
    """Policies under which some answers are less confident than others."""
    salts = []
    for salt in range(99):
        policy = ToyPolicy(2, salt)
        found = {least(policy, y, window) for y in responses(policy, PROMPT.tokens, longest)} - {
            math.inf
        }
        if len(found) > 1:
            salts.append(salt)
    return salts[:3]


@pytest.mark.parametrize(
    ("n", "warm_up", "keep", "window", "longest"),
    [(3, 2, 0.5, 1, 3), (3, 1, 1.0, 1, 3), (2, 2, 0.5, 1, 3), (3, 2, 0.5, 2, 4), (3, 2, 1.0, 2, 4)],
)
def test_the_law(n, warm_up, keep, window, longest):
    for salt in telling_salts(window, longest):
        policy, reward = ToyPolicy(2, salt), ToyReward(salt)
        base = responses(policy, PROMPT.tokens, longest)
        worst = {y: least(policy, y, window) for y in base}
        expected, cut = defaultdict(float), 0.0
        for draws in itertools.product(base, repeat=n):
            known = [worst[y] for y in draws[:warm_up] if worst[y] < math.inf]
            order = sorted(known, reverse=True)
            threshold = order[math.ceil(keep * len(order)) - 1] if order else -math.inf
            pool = [y for y in draws if worst[y] >= threshold]
            mass = math.prod(base[y] for y in draws)
            cut += mass * (len(pool) < n)
            expected[winner(policy, reward, pool)] += mass
        strategy = DeepConf(
            select=VOTE, n=n, warm_up=warm_up, keep=keep, window=window, max_tokens=longest
        )
        assert distance(law_of(strategy, policy, reward, PROMPT), expected) < 1e-12
        assert cut > 0.01


@pytest.mark.parametrize("seed", range(8))
def test_answers_end_at_the_very_token(seed):
    policy, rule = ToyPolicy(3), LowConfidence(window=2, below=-0.95)
    whole = asyncio.run(policy.measure((1,), max_new_tokens=30, key=Key(seed)))
    boundary = rule.begin_after(1)
    cut = asyncio.run(policy.extend((1,), max_new_tokens=30, key=Key(seed), boundary=boundary))
    found, mean = None, 0.0
    for num, entropy in enumerate(whole.certainty.entropies[:-1], 1):
        mean = segmenters.running_mean(mean, entropy, num, 2)
        if num >= 2 and -mean < -0.95:
            found = num
            break
    assert len(cut.tokens) == (found or len(whole.tokens))
    assert (cut.stop is Stop.BOUNDARY) == (found is not None)


def test_the_rule_has_a_memory_of_one_segment():
    rule = LowConfidence(window=1, below=-0.5)
    with pytest.raises(ConfigError, match="begin_after"):
        rule.ends_after(1, 1.0, "a")
    one, other = rule.begin_after(3), rule.begin_after(3)
    assert one.ends_after(1, 1.0, "a")
    assert one != other


def test_only_confident_answers_are_judged_and_vote():
    calls = []

    class Counting(ToyReward):
        async def score(self, prompt, response):
            calls.append(response.complete)
            return 0.0

    strategy = DeepConf(select=VOTE, n=12, warm_up=4, keep=0.25, window=1, max_tokens=9)
    num_cut = 0
    for salt in range(6):
        run = Run(ToyPolicy(3, salt), Counting(), Key(0))
        asyncio.run(strategy.sample(PROMPT, run))
        num_cut += run.trace.notes["num_cut"]
        assert len(run.trace.proposals) == 12 - run.trace.notes["num_cut"]
    assert all(calls)
    assert num_cut > 0


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match=r"warm_up=5.*at most n=4"):
        DeepConf(select=VOTE, n=4, warm_up=5)
    with pytest.raises(ConfigError, match="only the warm-up is measured"):
        DeepConf(select=SelfCertainty(extract=first_word))


# planted mistakes


def test_planted_mistakes(monkeypatch):
    """A mean that forgets what was before, as the rule of the engine would have it."""
    strategy = DeepConf(select=VOTE, n=3, warm_up=2, keep=0.5, window=2, max_tokens=4)
    salts = telling_salts(2, 4)

    def law_at(salt):
        return law_of(strategy, ToyPolicy(2, salt), ToyReward(salt), PROMPT)

    right = [law_at(salt) for salt in salts]
    monkeypatch.setattr(segmenters, "running_mean", lambda mean, value, num, window: value)
    assert max(distance(law_at(salt), one) for salt, one in zip(salts, right, strict=True)) > 1e-3

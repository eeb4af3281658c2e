"""Cautious against a reference that draws token by token and knows nothing of its code."""

import asyncio
import math
from collections import defaultdict

import pytest
from selector_law import PROMPT

from rsalign import Cautious, ConfigError, Key, Run
from rsalign.core.types import Response
from rsalign.strategies import cautious as module
from rsalign.testing import EOS, ToyPolicy, ToyReward, distance, law_of

LONGEST = 3


def entropy(probs):
    return -sum(p * math.log(p) for p in probs)


def trials_of(policy, prefix, marks, longest):
    """q(s): all continuations up to the first mark, with their probabilities."""
    found = {}

    def grow(tokens, mass):
        for token, p in enumerate(policy.probs(PROMPT.tokens + prefix + tokens)):
            longer = (*tokens, token)
            whole = len(prefix) + len(longer) == LONGEST or token == EOS
            if whole or str(token) in marks or len(longer) == longest:
                found[longer] = mass * p
            else:
                grow(longer, mass * p)

    grow((), 1.0)
    return found


def reference(policy, marks, longest, num_trials):
    """The law of the answer: one token, or the best of K trials by order statistics."""
    law = defaultdict(float)

    def mean_log_prob(prefix, trial):
        logs = [
            math.log(policy.probs(PROMPT.tokens + prefix + trial[:i])[token])
            for i, token in enumerate(trial)
        ]
        return math.fsum(logs) / len(logs)

    def grow(prefix, mass):
        if prefix[-1:] == (EOS,) or len(prefix) == LONGEST:
            law[prefix] += mass
            return
        probs = policy.probs(PROMPT.tokens + prefix)
        k = num_trials(entropy(probs))
        if k == 1:
            for token, p in enumerate(probs):
                grow((*prefix, token), mass * p)
            return
        q = trials_of(policy, prefix, marks, longest)
        worth = {s: mean_log_prob(prefix, s) for s in q}
        for s in q:  # no two are equal
            upto = sum(p for t, p in q.items() if worth[t] <= worth[s])
            below = sum(p for t, p in q.items() if worth[t] < worth[s])
            grow(prefix + s, mass * (upto**k - below**k))

    grow((), 1.0)
    return law


SETTINGS = [
    {"most_trials": 2, "low": 0.0, "high": 0.5, "marks": "1", "trial_tokens": 9},
    {"most_trials": 2, "low": 0.6, "high": 0.66, "marks": "1", "trial_tokens": 9},
    {"most_trials": 3, "low": 0.5, "high": 0.68, "marks": "9", "trial_tokens": 1},
    {"most_trials": 2, "low": 0.55, "high": 0.63, "marks": "9", "trial_tokens": 2},
    {"most_trials": 2, "low": 0.0, "high": 0.4, "marks": "9", "trial_tokens": 2},
]


@pytest.mark.parametrize("salt", range(3))
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_law(settings, salt):
    policy = ToyPolicy(2, salt)
    strategy = Cautious(**settings, max_tokens=LONGEST)
    expected = reference(policy, settings["marks"], settings["trial_tokens"], strategy.num_trials)
    assert sum(expected.values()) == pytest.approx(1.0)
    assert distance(law_of(strategy, policy, ToyReward(), PROMPT), expected) < 1e-12


def test_some_places_are_sure_and_some_are_not():
    """The laws above are of both kinds of places, and of trials that begin behind sure tokens."""
    entropies = [
        entropy(ToyPolicy(2, salt).probs(PROMPT.tokens + prefix))
        for salt in range(3)
        for prefix in [(), (1,), (1, 1)]
    ]
    for settings in SETTINGS[1:4]:
        num = {Cautious(**settings).num_trials(h) for h in entropies}
        assert min(num) == 1 < max(num)


def test_marks_are_found_in_the_text_of_a_token():
    """A token of several characters ends a trial if one of them is a mark, and no other does."""

    strategy = Cautious(marks="1", low=0.0, high=0.1, max_tokens=9)
    marked, trials = {1, 10, 11}, []  # ToyPolicy writes tokens as numbers
    for seed in range(5):
        run = Run(ToyPolicy(12), ToyReward(), Key(seed))
        asyncio.run(strategy.sample(PROMPT, run))
        trials += [p.candidate.tokens[p.kept :] for p in run.trace.proposals[:-1]]
    assert any(trial[-1] in (10, 11) for trial in trials)
    assert any(len(trial) > 1 for trial in trials)
    assert not any(marked & set(trial[:-1]) for trial in trials)


def test_nothing_unfinished_is_judged():
    calls = []

    class Counting(ToyReward):
        async def score(self, prompt, response):
            calls.append(response.complete)
            return 0.0

    run = Run(ToyPolicy(3), Counting(), Key(0))
    asyncio.run(Cautious(marks="1", max_tokens=6).sample(PROMPT, run))
    assert calls == [True]


def test_a_policy_that_cannot_measure_is_refused():
    class Plain(ToyPolicy):
        measure = None

    with pytest.raises(ConfigError, match="Plain cannot tell how certain"):
        asyncio.run(Cautious().sample(PROMPT, Run(Plain(), ToyReward(), Key(0))))


# planted mistakes

ALWAYS = {"most_trials": 2, "low": 0.0, "high": 0.4, "marks": "9", "trial_tokens": 2}
LATE = {"most_trials": 2, "low": 0.55, "high": 0.63, "marks": "9", "trial_tokens": 2}


def cautious_law(settings, salt):
    return law_of(Cautious(**settings, max_tokens=4), ToyPolicy(2, salt), ToyReward(), PROMPT)


def total_log_prob(response: Response, start):
    return math.fsum(response.log_probs[start:])


def greatest_perplexity(response: Response, start):
    return -math.fsum(response.log_probs[start:]) / (len(response.tokens) - start)


def of_the_whole_answer(response: Response, start):
    return math.fsum(response.log_probs) / len(response.tokens)


@pytest.mark.parametrize("wrong", [total_log_prob, greatest_perplexity, of_the_whole_answer])
def test_planted_mistakes(wrong, monkeypatch):
    laws = [cautious_law(ALWAYS, salt) for salt in range(4)]
    monkeypatch.setattr(module, "_mean_log_prob", wrong)
    assert max(distance(cautious_law(ALWAYS, salt), laws[salt]) for salt in range(4)) > 1e-3


def test_a_first_trial_that_is_not_drawn_to_its_end(monkeypatch):
    """A trial that begins behind sure tokens has as many tokens as the others."""

    def is_late(salt):
        policy = ToyPolicy(2, salt)
        first, second = (entropy(policy.probs(PROMPT.tokens + y)) for y in ((), (1,)))
        return first < LATE["high"] <= second

    salts = [salt for salt in range(60) if is_late(salt)][:4]
    laws = [cautious_law(LATE, salt) for salt in salts]
    monkeypatch.setattr(Cautious, "_has_mark", lambda *_: True)
    changed = [cautious_law(LATE, salt) for salt in salts]
    assert max(map(distance, changed, laws)) > 1e-3

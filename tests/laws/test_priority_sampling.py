"""PrioritySampling against a search of all answers that knows nothing of its queue."""

import asyncio
import math
import re

import pytest
from selector_law import PROMPT

from rsalign import ConfigError, Key, Matching, PrioritySampling, Run
from rsalign.selectors import Hard
from rsalign.strategies.priority_sampling import _Queue
from rsalign.testing import EOS, ToyPolicy, ToyReward, responses

LONGEST = 3


def is_complete(tokens):
    return tokens[-1:] == (EOS,) or len(tokens) == LONGEST


def brute_force(policy, n, allows=lambda tokens: True):
    """The answers in order: all branches that were met are listed anew for each of them."""
    probs = {(): policy.probs(PROMPT.tokens)}

    def law(prefix):
        return probs.setdefault(prefix, policy.probs(PROMPT.tokens + prefix))

    def greedy(prefix):
        while not is_complete(prefix):
            p = law(prefix)
            able = [t for t in range(len(p)) if allows((*prefix, t))]
            if not able:
                return None
            prefix = (*prefix, max(able, key=lambda t: (p[t], -t)))
        return prefix

    found, priorities = [greedy(())], [1.0]
    while len(found) < n:
        taken = {answer[:i] for answer in found for i in range(len(answer) + 1)}
        branches = [
            (law(answer[:i])[t], (*answer[:i], t))
            for answer in found
            for i in range(len(answer))
            for t in range(policy.vocab)
            if (*answer[:i], t) not in taken and allows((*answer[:i], t))
        ]
        branches = [(p, start) for p, start in branches if greedy(start) is not None]
        if not branches:
            break
        p, start = max(branches, key=lambda one: one[0])
        found.append(greedy(start))
        priorities.append(p)
    return found, priorities


def search(strategy, policy, reward=None):
    run = Run(policy, reward or ToyReward(), Key(0))
    answer = asyncio.run(strategy.sample(PROMPT, run))
    return answer, run.trace


@pytest.mark.parametrize("salt", range(4))
@pytest.mark.parametrize("n", [1, 2, 5, 99])
def test_the_order_of_confidence(n, salt):
    policy = ToyPolicy(3, salt)
    answer, trace = search(PrioritySampling(n=n, max_tokens=LONGEST), policy)
    found, priorities = brute_force(policy, n)
    assert [p.candidate.tokens for p in trace.proposals] == found
    assert trace.notes["priorities"] == pytest.approx(priorities)
    assert answer.tokens == max(found, key=ToyReward().value)
    if n == 99:  # all there are, each once
        assert sorted(found) == sorted(responses(policy, PROMPT.tokens, LONGEST))
    for proposal in trace.proposals:
        tokens, log_probs = proposal.candidate.tokens, proposal.candidate.response.log_probs
        exact = responses(policy, PROMPT.tokens, LONGEST)[tokens]
        assert math.exp(sum(log_probs)) == pytest.approx(exact)


@pytest.mark.parametrize("salt", range(4))
@pytest.mark.parametrize("pattern", ["(1|2 1?)+", "2( 2)*", "1 2 1|2"])
def test_a_regular_expression(pattern, salt):
    policy = ToyPolicy(3, salt)
    whole = [
        policy.text(y)
        for y in responses(policy, PROMPT.tokens, LONGEST)
        if re.fullmatch(pattern, policy.text(y))
    ]

    def allows(tokens):
        text = policy.text(tokens)
        if is_complete(tokens):
            return text in whole
        return any(one.startswith(text) for one in whole)

    strategy = PrioritySampling(
        n=99, alternatives=3, constraint=Matching(pattern), max_tokens=LONGEST
    )
    _, trace = search(strategy, policy)
    found, _ = brute_force(policy, 99, allows)
    got = [p.candidate.tokens for p in trace.proposals]
    assert len(set(got)) == len(got)
    assert all(re.fullmatch(pattern, policy.text(y)) for y in got)
    assert sorted(got) == sorted(y for y in found if y is not None)


def test_nothing_allowed_is_an_abstention():
    strategy = PrioritySampling(n=3, constraint=Matching("x"), max_tokens=LONGEST)
    answer, trace = search(strategy, ToyPolicy(3))
    assert answer.abstained
    assert trace.notes["priorities"] == ()


def test_only_answers_are_judged():
    calls = []

    class Counting(ToyReward):
        async def score(self, prompt, response):
            calls.append(response.complete)
            return await super().score(prompt, response)

    constraint = Matching("[12 ]*")
    strategy = PrioritySampling(n=3, alternatives=3, constraint=constraint, max_tokens=LONGEST)
    search(strategy, ToyPolicy(3, 1), Counting())
    assert calls == [True] * 3


def test_a_policy_that_cannot_list_is_refused():
    class Silent(ToyPolicy):
        most_probable = None

    with pytest.raises(ConfigError, match="Silent cannot list the most probable tokens"):
        search(PrioritySampling(n=2), Silent())


# planted mistakes


def test_planted_mistakes(monkeypatch):
    """The last branch met instead of the most probable, and a queue that forgets to grow."""
    strategy = PrioritySampling(n=5, max_tokens=LONGEST, select=Hard())
    right = [brute_force(ToyPolicy(3, salt), 5)[0] for salt in range(4)]

    def found():
        traces = [search(strategy, ToyPolicy(3, salt))[1] for salt in range(4)]
        return [[p.candidate.tokens for p in trace.proposals] for trace in traces]

    def last(self):
        self._heap.sort(key=lambda one: one[1])
        return self._heap.pop()[2] if self._heap else None

    with monkeypatch.context() as patch:
        patch.setattr(_Queue, "pop", last)
        assert found() != right
    push = _Queue.push
    with monkeypatch.context() as patch:
        patch.setattr(
            _Queue, "push", lambda self, one: push(self, one) if len(one.kept) < 2 else None
        )
        assert found() != right
    assert found() == right

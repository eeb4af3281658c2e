"""The law of `Cards`, derived from the toy tables alone: it shares no line with the package."""

import math
from collections import defaultdict
from dataclasses import dataclass

import pytest

from rsalign import Message, Prompt
from rsalign.testing import EOS

PROMPT = Prompt((Message("user", "1"),), (1,))
FAILED = "failed"
SALTS = [0, *(pytest.param(salt, marks=pytest.mark.nightly) for salt in (1, 2))]
"""Of the toys; one irregular table tells all mistakes that are planted in `test_cards_mistakes`."""


def over(tokens, max_tokens, stops=()):
    """Whether a response ends here; the toy's words are its token ids."""
    text = " ".join(str(token) for token in tokens)
    return tokens[-1] == EOS or len(tokens) == max_tokens or any(stop in text for stop in stops)


def segments(policy, kept, *, max_tokens, size, entropy=math.inf, stops=()):
    """q(s): every longer response at which one segment after `kept` ends, with its probability."""
    ended = {}

    def grow(tokens, mass):
        probs = policy.probs(PROMPT.tokens + tokens)
        drawn = len(tokens) - len(kept)
        if drawn and -math.fsum(p * math.log(p) for p in probs) >= entropy:
            ended[tokens] = mass
            return
        for token, p in enumerate(probs):
            longer = (*tokens, token)
            if drawn + 1 == size or over(longer, max_tokens, stops):
                ended[longer] = mass * p
            else:
                grow(longer, mass * p)

    grow(kept, 1.0)
    return ended


def line(value, target, prompt_weight, max_tokens):
    """tau(n) of the paper, with r0 = (1 - alpha) r(x) + alpha r*."""
    alpha = 1 - prompt_weight
    start = (1 - alpha) * value(()) + alpha * target
    return lambda n: min(target, start + n * (target - start) / max_tokens)


def soft(beta):
    return lambda reward, bar: min(1.0, math.exp((reward - bar) / beta))


def hard(reward, bar):
    return 1.0 if reward >= bar else 0.0


def next_law(q, accept, value, tries, exhausted):
    """The closed form of the docstring, for one segment."""
    law = accepted_law(q, accept, tries)
    for s, p in forced_law(q, accept, value, tries, exhausted).items():
        law[s] = law.get(s, 0.0) + p
    return law


def accepted_law(q, accept, tries):
    """The part of the law in which a draft was accepted."""
    A = math.fsum(q[s] * accept[s] for s in q)
    return {s: q[s] * accept[s] * sum((1 - A) ** k for k in range(tries)) for s in q}


def forced_law(q, accept, value, tries, exhausted):
    """The part of the law in which all tries were used up."""
    A = math.fsum(q[s] * accept[s] for s in q)
    lost = {s: q[s] * (1 - accept[s]) for s in q}
    law = dict.fromkeys(q, 0.0)
    if exhausted == "fail":
        return {FAILED: (1 - A) ** tries}
    for s in q:
        if exhausted == "last":
            law[s] += (1 - A) ** (tries - 1) * lost[s]
            continue
        below = math.fsum(lost[t] for t in q if value(t) < value(s))
        level = math.fsum(lost[t] for t in q if value(t) == value(s))
        if level:
            law[s] += lost[s] / level * ((below + level) ** tries - below**tries)
    return law


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One case, in the test's own terms."""

    bar: object
    accept: object
    size: int | object
    """Of a segment, or a function from the kept tokens to it."""
    entropy: float = math.inf
    max_tokens: int
    tries: int
    exhausted: str = "best"
    stops: tuple = ()

    def first(self, policy, value, kept=()):
        """q and a of the segment after `kept`."""
        q = segments(
            policy,
            kept,
            max_tokens=self.max_tokens,
            size=self.size(kept) if callable(self.size) else self.size,
            entropy=self.entropy,
            stops=self.stops,
        )
        return q, {s: self.accept(value(s), self.bar(len(s))) for s in q}

    def ends(self, s):
        return s == FAILED or over(s, self.max_tokens, self.stops)

    def drawn_to_the_end(self, policy, kept):
        """P(answer) of one untested draw."""
        return segments(
            policy, kept, max_tokens=self.max_tokens, size=self.max_tokens, stops=self.stops
        )

    def law(self, policy, value):
        """P(answer) by following every accepted prefix."""
        done = defaultdict(float)
        open_ = {(): 1.0}
        while open_:
            longer = defaultdict(float)
            for kept, mass in open_.items():
                q, accept = self.first(policy, value, kept)
                for s, p in accepted_law(q, accept, self.tries).items():
                    (done if self.ends(s) else longer)[s] += mass * p
                for s, p in forced_law(q, accept, value, self.tries, self.exhausted).items():
                    if self.exhausted == "finish" and not self.ends(s):
                        for answer, rest in self.drawn_to_the_end(policy, s).items():
                            done[answer] += mass * p * rest
                    else:
                        (done if self.ends(s) else longer)[s] += mass * p
            open_ = longer
        return {s: p for s, p in done.items() if p}

"""What tests of selectors share: irregular toys, and the law of a rule over every pool."""

import itertools
import math
from dataclasses import dataclass

import pytest

from rsalign import BestOf, Message, Plain, Prompt
from rsalign.core.types import Tokens
from rsalign.selectors.protocol import Selector
from rsalign.testing import ToyPolicy, ToyReward, law_of, responses

PROMPT = Prompt((Message("user", "1"),), (1,))
CLOSE = 1e-12


@dataclass(frozen=True)
class CoarseReward(ToyReward):
    """With many ties."""

    def value(self, tokens: Tokens) -> float:
        return float(round(super().value(tokens)))


def first_word(text: str) -> str | None:
    """Three texts of seven share the answer "1", three "2", and one has none."""
    return text.split()[0] if text else None


def answer_of(tokens: Tokens) -> int | None:
    """What `first_word` finds in the text of these tokens, as a token."""
    return tokens[0] or None


class Toys:
    """A policy, a reward, and what the tests need of them."""

    def __init__(
        self, salt: int, kind: type[ToyReward] = ToyReward, vocab: int = 3, max_tokens: int = 2
    ) -> None:
        self.policy, self.reward = ToyPolicy(vocab, salt), kind(salt)
        self.inner = Plain(max_tokens=max_tokens)
        self.base = responses(self.policy, PROMPT.tokens, max_tokens)
        self.value = self.reward.value

    def law(self, n: int, select: Selector) -> dict[Tokens, float]:
        """The exact law of best-of-n with this selector."""
        chosen = BestOf(n=n, inner=self.inner, select=select)
        return law_of(chosen, self.policy, self.reward, PROMPT)

    def over_pools(self, n: int, rule) -> dict[Tokens, float]:
        """The law of a rule from a pool of responses to probabilities of its members."""
        total = dict.fromkeys(self.base, 0.0)
        for pool in itertools.product(self.base, repeat=n):
            mass = math.prod(self.base[y] for y in pool)
            for y, p in zip(pool, rule(pool), strict=True):
                total[y] += mass * p
        return total


TOYS = [
    Toys(0, ToyReward),
    Toys(1, CoarseReward),
    # one irregular table and one with ties tell every mistake of `test_selectors_mistakes`
    *(
        pytest.param(Toys(salt, kind), marks=pytest.mark.nightly)
        for salt, kind in ((0, CoarseReward), (1, ToyReward))
    ),
]
each_toy = pytest.mark.parametrize("toys", TOYS)
each_n = pytest.mark.parametrize("n", [1, 2, 3])

"""A toy policy with a toy draft, and the probabilities that laws of both are derived from."""

import math
from dataclasses import dataclass

from rsalign import Message, Prompt
from rsalign.testing import EOS, ToyPolicy, ToyReward

PROMPT = Prompt((Message("user", "1"),), (1,))
BETA = 0.7


@dataclass(frozen=True)
class Toys:
    """A policy p, a draft q and a reward r, with everything about them that laws need."""

    vocab: int = 2
    max_tokens: int = 2
    size: int = 1
    salt: int = 3

    @property
    def policy(self):
        return ToyPolicy(self.vocab, self.salt)

    @property
    def draft(self):
        return ToyPolicy(self.vocab, self.salt + 50)

    @property
    def reward(self):
        return ToyReward(self.salt)

    @property
    def parts(self):
        return {"draft": self.draft}

    def ended(self, tokens):
        return tokens[-1] == EOS or len(tokens) == self.max_tokens

    def segments(self, model, kept=()):
        """The law of the whole answer after one more segment of `model`."""
        ended = {}

        def grow(tokens, mass):
            for token, p in enumerate(model.probs(PROMPT.tokens + tokens)):
                longer = (*tokens, token)
                if self.ended(longer) or len(longer) - len(kept) == self.size:
                    ended[longer] = mass * p
                else:
                    grow(longer, mass * p)

        grow(kept, 1.0)
        return ended

    def value(self, tokens):
        return self.reward.value(tokens)

    def answers(self, step):
        """The law of whole answers whose segments have the law ``step(kept)``."""
        done, open_ = {}, {(): 1.0}
        while open_:
            longer = {}
            for kept, mass in open_.items():
                for tokens, p in step(kept).items():
                    into = done if self.ended(tokens) else longer
                    into[tokens] = into.get(tokens, 0.0) + mass * p
            open_ = longer
        return done


def normalised(weights):
    total = math.fsum(weights.values())
    return {y: w / total for y, w in weights.items()}

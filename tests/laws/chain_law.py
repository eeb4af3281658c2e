"""Exact transition matrices of chains on toy policies, and what must hold for them."""

import asyncio
import math

import numpy as np

from rsalign import Message, Prompt, Stop
from rsalign.core.run import Run
from rsalign.core.types import Candidate, Certainty, Response
from rsalign.testing import EOS, ToyPolicy, ToyReward, law, responses

PROMPT = Prompt((Message("user", "1"),), (1,))
BETA = 0.7


class Space:
    """All responses of a toy policy, as states of a chain, with the policy's law on them."""

    def __init__(self, vocab=3, max_tokens=2, salt=0, policy=None):
        self.policy = policy or ToyPolicy(vocab, salt)
        self.reward = ToyReward(salt)
        self.max_tokens = max_tokens
        base = responses(self.policy, PROMPT.tokens, max_tokens)
        self.tokens = list(base)
        self.base = np.array([base[y] for y in self.tokens])
        self.states = [self.state(y) for y in self.tokens]

    def state(self, tokens):
        laws = [self.policy.probs(PROMPT.tokens + tokens[:i]) for i in range(len(tokens))]
        certainty = Certainty(
            tuple(-math.fsum(p * math.log(p) for p in one if p) for one in laws),
            (0.0,) * len(tokens),
        )
        response = Response(
            tokens,
            self.policy.text(tokens),
            Stop.EOS if tokens[-1] == EOS else Stop.LENGTH,
            asyncio.run(self.policy.log_probs(PROMPT.tokens, tokens)),
            certainty=certainty,
        )
        return Candidate(response, self.reward.value(tokens))

    def tilted(self, log_weight):
        """pi w / Z."""
        weights = self.base * np.exp([log_weight(state) for state in self.states])
        return weights / weights.sum()

    def matrix(self, step):
        """K[i, j] of `step(state, run) -> next state`."""
        places = {tokens: i for i, tokens in enumerate(self.tokens)}
        matrix = np.zeros((len(self.tokens),) * 2)
        for i, state in enumerate(self.states):

            async def move(key, state=state):
                return (await step(state, Run(self.policy, self.reward, key))).tokens

            for tokens, mass in law(move).items():
                # what lies outside of the space is lost, and missed by the test
                if tokens in places:
                    matrix[i, places[tokens]] += mass
        return matrix


def kernel_matrix(space, kernel, log_weight):
    async def step(state, run):
        return (await kernel.step(PROMPT, state, log_weight, run)).state

    return space.matrix(step)


def imbalance(target, matrix):
    """The greatest violation of detailed balance, or of probabilities that sum to 1."""
    flow = target[:, None] * matrix
    return max(np.abs(flow - flow.T).max(), np.abs(matrix.sum(1) - 1).max())


def drift(target, matrix):
    """The total variation that one step takes the target away from itself."""
    return np.abs(target @ matrix - target).sum() / 2

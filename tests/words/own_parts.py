"""Parts of a user's own, as a module next to where commands are run."""

from dataclasses import dataclass, field

from rsalign import BestOf, Plain
from rsalign.testing import ToyPolicy, ToyReward


def score(prompt, response):
    return float(len(response))


class Scale:
    """A reward with a setting."""

    def __init__(self, by=1.0):
        self.by = by

    async def score(self, prompt, response):
        return self.by * len(response.text)


@dataclass(frozen=True)
class Mine:
    """A strategy whose inner one is declared by a field's metadata alone."""

    n: int = 2
    inner: object = field(default_factory=Plain, metadata={"kind": "strategy"})

    async def sample(self, prompt, run):
        return await self.inner.sample(prompt, run)


@dataclass(frozen=True)
class ByStep:
    """A reward of steps."""

    by: float = 1.0

    async def score_steps(self, prompt, response, ends):
        return tuple(self.by * end for end in ends)


class Model(ToyPolicy):
    """A policy that remembers whether it was closed."""

    closed = 0

    def close(self):
        Model.closed += 1


by_step = ByStep()
twice = Scale(2.0)
three = BestOf(n=3)
toy_policy, toy_reward = ToyPolicy(), ToyReward()


def make_policy(seed=0):
    return ToyPolicy()


def fail():
    raise SystemExit(3)

"""law(): the exact distribution of whatever a strategy computes.

Strategies draw only finite choices, and only through `Key`. `BranchKey` is a key whose draws walk
a tree instead: the strategy is run once per leaf, and each leaf has the product of its choices'
probabilities as its mass. The same code that samples on vLLM is thereby enumerated exactly.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from rsalign.core.key import Key, Label
from rsalign.core.protocols import Policy, Reward, Strategy
from rsalign.core.run import Run
from rsalign.core.types import Prompt, Tokens

R = TypeVar("R", bound=Hashable)


@dataclass(slots=True)
class ChoiceTree:
    """The leaf that is being visited, and how to get to the next."""

    _choices: dict[tuple[Label, ...], int] = field(default_factory=dict)
    _order: list[tuple[tuple[Label, ...], tuple[float, ...]]] = field(default_factory=list)

    def pick(self, path: tuple[Label, ...], probs: Sequence[float]) -> int:
        """The choice at an address on this visit."""
        if path not in self._choices:
            total = math.fsum(probs)
            normalised = tuple(p / total for p in probs)
            self._choices[path] = next(i for i, p in enumerate(normalised) if p > 0)
            self._order.append((path, normalised))
        return self._choices[path]

    def mass(self) -> float:
        """Probability of the leaf just visited."""
        return math.prod(probs[self._choices[path]] for path, probs in self._order)

    def advance(self) -> bool:
        """Moves on to the next leaf; False after the last."""
        while self._order:
            path, probs = self._order[-1]
            later = [i for i in range(self._choices[path] + 1, len(probs)) if probs[i] > 0]
            if later:
                self._choices[path] = later[0]
                return True
            self._order.pop()
            del self._choices[path]
        return False


@dataclass(frozen=True, slots=True)
class BranchKey(Key):
    """A key whose draws are enumerated instead of drawn."""

    tree: ChoiceTree = field(default_factory=ChoiceTree)

    def child(self, *labels: Label) -> "BranchKey":
        """The key at a narrower address of the same tree."""
        return BranchKey(self.root, self.path + labels, self.tree)

    def categorical(self, probs: Sequence[float]) -> int:
        """The choice of this visit."""
        return self.tree.pick(self.path, probs)

    def below(self, n: int) -> int:
        """The choice of this visit."""
        return self.tree.pick(self.path, (1 / n,) * n)

    def seed(self) -> int:
        """Refused: a seed stands for unlimited randomness, which cannot be enumerated."""
        raise TypeError("law() needs finite draws: use Key.categorical, bernoulli or below")


def law(run: Callable[[Key], Awaitable[R]]) -> dict[R, float]:
    """The exact distribution of `run`'s result, as probability by value.

    Example:
        >>> async def two_coins(key):
        ...     return key.child(0).bernoulli(0.5) + key.child(1).bernoulli(0.5)
        >>> law(two_coins)
        {0: 0.25, 1: 0.5, 2: 0.25}
    """
    tree = ChoiceTree()
    masses: defaultdict[R, list[float]] = defaultdict(list)

    async def visit_all() -> None:
        while True:
            result = await run(BranchKey(0, (), tree))
            masses[result].append(tree.mass())
            if not tree.advance():
                return

    asyncio.run(visit_all())
    return {result: math.fsum(parts) for result, parts in masses.items()}


def distance(one: Mapping[R, float], other: Mapping[R, float]) -> float:
    """The greatest difference of probability between two laws."""
    return max(abs(one.get(y, 0.0) - other.get(y, 0.0)) for y in {*one, *other})


def law_of(
    strategy: Strategy, policy: Policy, reward: Reward, prompt: Prompt
) -> dict[Tokens, float]:
    """The exact distribution of a strategy's answer, by its tokens."""

    async def answer(key: Key) -> Tokens:
        return (await strategy.sample(prompt, Run(policy, reward, key))).tokens

    return law(answer)

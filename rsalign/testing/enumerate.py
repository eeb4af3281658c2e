"""law(): the exact probability distribution of the result of a strategy.

Strategies draw only from finite choices, and only through a `Key`. A `BranchKey` replaces each draw
by a branch of a tree. The strategy runs once per leaf of the tree, and the probability of a leaf is
the product of the probabilities of its choices. The same code that samples on vLLM is thus
enumerated exactly.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

from rsalign.core.key import Key, Label
from rsalign.core.protocols import Policy, Reward, Strategy
from rsalign.core.run import Run
from rsalign.core.types import Prompt, Tokens

R = TypeVar("R", bound=Hashable)

NO_PARTS: Mapping[str, Any] = MappingProxyType({})
"""The named parts of a run that has none."""


@dataclass(slots=True)
class ChoiceTree:
    """The tree of all choices: the current leaf, and the way to the next one.

    Example:
        >>> tree = ChoiceTree()
        >>> tree.pick(("coin",), (0.25, 0.75)), tree.mass(), tree.advance()
        (0, 0.25, True)
        >>> tree.pick(("coin",), (0.25, 0.75)), tree.mass(), tree.advance()
        (1, 0.75, False)
    """

    _choices: dict[tuple[Label, ...], int] = field(default_factory=dict)
    _order: list[tuple[tuple[Label, ...], tuple[float, ...]]] = field(default_factory=list)

    def pick(self, path: tuple[Label, ...], probs: Sequence[float]) -> int:
        """Returns the choice at an address on the way to the current leaf."""
        if path not in self._choices:
            total = math.fsum(probs)
            normalised = tuple(p / total for p in probs)
            self._choices[path] = next(i for i, p in enumerate(normalised) if p > 0)
            self._order.append((path, normalised))
        return self._choices[path]

    def mass(self) -> float:
        """Returns the probability of the current leaf."""
        return math.prod(probs[self._choices[path]] for path, probs in self._order)

    def advance(self) -> bool:
        """Moves to the next leaf; returns False after the last one."""
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
    """A key whose draws are enumerated instead of random; `law` creates it.

    Example:
        >>> tree = ChoiceTree()
        >>> BranchKey(0, ("coin",), tree).bernoulli(0.25), tree.mass()
        (False, 0.75)
    """

    tree: ChoiceTree = field(default_factory=ChoiceTree)

    def child(self, *labels: Label) -> "BranchKey":
        """Returns the key whose path is extended by `labels`, in the same tree."""
        return BranchKey(self.root, self.path + labels, self.tree)

    def categorical(self, probs: Sequence[float]) -> int:
        """Returns the choice of the current leaf."""
        return self.tree.pick(self.path, probs)

    def below(self, n: int) -> int:
        """Returns the choice of the current leaf."""
        return self.tree.pick(self.path, (1 / n,) * n)

    def seed(self) -> int:
        """Raises TypeError: a seed stands for unlimited randomness, which cannot be enumerated."""
        raise TypeError("law() needs finite draws: use Key.categorical, bernoulli or below")


def law(run: Callable[[Key], Awaitable[R]]) -> dict[R, float]:
    """Computes the exact distribution of the result of `run`, as probability by value.

    Args:
        run: any computation whose randomness comes from its key alone.

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
    """Returns the greatest difference of probability between two distributions.

    Example:
        >>> distance({"a": 0.5, "b": 0.5}, {"a": 0.75, "c": 0.25})
        0.5
    """
    return max(abs(one.get(y, 0.0) - other.get(y, 0.0)) for y in {*one, *other})


def law_of(
    strategy: Strategy,
    policy: Policy,
    reward: Reward,
    prompt: Prompt,
    parts: Mapping[str, Any] = NO_PARTS,
) -> dict[Tokens, float]:
    """Computes the exact distribution of a strategy's answer, as probability by its tokens.

    The policy's draws must be enumerable, too, as those of `ToyPolicy` are.

    Args:
        strategy: any.
        policy: draws continuations.
        reward: scores responses.
        prompt: what is answered.
        parts: the named parts that the strategy needs.

    Example:
        >>> from rsalign import Plain
        >>> from rsalign.testing import ToyPolicy, ToyReward, responses
        >>> exact = law_of(Plain(max_tokens=2), ToyPolicy(), ToyReward(), Prompt((), (1,)))
        >>> distance(exact, responses(ToyPolicy(), (1,), max_tokens=2)) < 1e-12
        True
    """

    async def answer(key: Key) -> Tokens:
        return (await strategy.sample(prompt, Run(policy, reward, key, parts=parts))).tokens

    return law(answer)

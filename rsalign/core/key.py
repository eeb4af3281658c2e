"""Addressed randomness: a random draw depends only on its address, a `Key`.

A `Key` is a root seed and a path of labels. Interleaving, resuming or extending a run therefore
does not change any draw. All draws have a *finite* number of outcomes, so that
`rsalign.testing.law` can enumerate them and return the exact distribution of a result.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rsalign.core.checks import SEED, check_int
from rsalign.core.errors import ConfigError

Label: TypeAlias = str | int
"""One step of an address: a role (``"candidate"``) or an index."""

_SEED_BITS = 63  # what torch.Generator and vLLM's SamplingParams accept as a non-negative seed


@dataclass(frozen=True, slots=True)
class Key:
    """The address of one random draw. Equal keys draw equal values, so use each key only once.

    Attributes:
        root: the seed of the whole run, any whole number.
        path: labels from the root to this draw.

    Raises:
        ConfigError: if `root` is not a whole number.

    Example:
        >>> key = Key(7).child("step", 3)
        >>> key.below(10) == Key(7, ("step", 3)).below(10)
        True
    """

    root: int
    path: tuple[Label, ...] = ()

    def __post_init__(self) -> None:
        # a fast path, since keys are created often
        if type(self.root) is not int or self.root.bit_length() > 63:
            object.__setattr__(self, "root", check_int("Key", "root", self.root, SEED))

    def child(self, *labels: Label) -> "Key":
        """Returns the key whose path is extended by `labels`."""
        return Key(self.root, self.path + labels)

    def seed(self) -> int:
        """Returns a 63-bit seed for an engine's sampler: a blake2b hash of root and path.

        It is a hash and not a sum, so that seeds of neighbouring addresses are unrelated.
        """
        digest = hashlib.blake2b(repr((self.root, self.path)).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") >> (64 - _SEED_BITS)

    def categorical(self, probs: Sequence[float]) -> int:
        """Draws an index with probability proportional to `probs`.

        Args:
            probs: non-negative finite weights, ``(choices,)``; they need not sum to one.

        Raises:
            ConfigError: if no weight is positive, or one is negative or not finite.
        """
        try:
            total = math.fsum(probs)
        except OverflowError:
            total = math.inf
        if not (0 < total < math.inf) or min(probs) < 0:
            raise ConfigError(
                f"cannot draw from weights {tuple(probs)!r}: they must be finite, non-negative "
                "and not all zero"
            )
        point = self.seed() / 2**_SEED_BITS * total
        for index, weight in enumerate(probs):
            point -= weight
            if point < 0:
                return index
        # rounding can leave `point` at zero after the last weight
        return max(index for index, weight in enumerate(probs) if weight > 0)

    def bernoulli(self, p: float) -> bool:
        """Draws True with probability `p`."""
        return self.categorical((1 - p, p)) == 1

    def below(self, n: int) -> int:
        """Draws uniformly from ``0 .. n - 1``."""
        if n < 1:
            raise ConfigError(f"cannot draw below {n}: at least one choice is needed")
        return self.seed() * n >> _SEED_BITS

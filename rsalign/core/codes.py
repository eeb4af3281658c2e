"""Codes of arithmetic sampling: samples that are spread jointly, and policies that draw by a code.

One number in [0, 1), the *code* of a sample, decides all of its tokens (Vilnis et al. 2023,
arXiv:2210.15458). The vocabulary, in the order of ids, divides [0, 1) into intervals whose lengths
are the tokens' probabilities. The code lies in one of them: its token is drawn, and the code's
relative place within the interval is the code of the next token. Under a uniform code a response is
drawn with exactly its probability.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from rsalign.core.errors import ConfigError
from rsalign.core.key import Key
from rsalign.core.protocols import Policy, innermost

NUM_ARGUMENT, SEED_ARGUMENT = "rsalign_arithmetic_n", "rsalign_arithmetic_seed"
MAX_SAMPLES = 1 << 16  # neighbouring codes then part long before the bits that tell them apart
SPENT = 2.0**-24
"""A code is used up when its response is less probable than this: float32 could tell no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeBook:
    """Codes at equal distances on the unit circle, all turned by one uniform angle.

    Each code by itself is uniform, so that each sample has the law that it would have alone.

    Attributes:
        n: number of codes, one for each sample.
        seed: of the angle. The sample with code i is the one whose request has ``seed=seed + i``:
            the seeds that vLLM gives the samples of one request with this `seed`.

    Raises:
        ConfigError: if there are no codes, or too many.

    Example:
        >>> CodeBook(n=8, seed=3).extra_args
        {'rsalign_arithmetic_n': 8, 'rsalign_arithmetic_seed': 3}
    """

    n: int
    seed: int

    def __post_init__(self) -> None:
        if not 1 <= self.n <= MAX_SAMPLES:
            raise ConfigError(
                f"{NUM_ARGUMENT}={self.n!r}: give a whole number between 1 and {MAX_SAMPLES}"
            )

    @property
    def extra_args(self) -> dict[str, int]:
        """The `extra_args` of its samples' `SamplingParams`, or their ``vllm_xargs`` over HTTP."""
        return {NUM_ARGUMENT: self.n, SEED_ARGUMENT: self.seed}

    def code(self, index: int) -> float:
        """Returns the code of one sample, at least 0 and below 1."""
        bits = 53  # of a float
        angle = Key(self.seed, ("arithmetic",)).below(1 << bits)
        # in whole numbers, whose remainder is exact
        return (angle + (index << bits) // self.n) % (1 << bits) / (1 << bits)


@dataclass(frozen=True, slots=True)
class Code:
    """The code of one sample of a book.

    Attributes:
        book: all codes.
        index: which of them, from 0.

    Example:
        >>> code = Code(CodeBook(n=2, seed=0), 1)
        >>> code.seed, round(abs(code.value - Code(code.book, 0).value), 12)
        (1, 0.5)
    """

    book: CodeBook
    index: int

    @property
    def value(self) -> float:
        """The number itself, at least 0 and below 1."""
        return self.book.code(self.index)

    @property
    def seed(self) -> int:
        """Of the request that draws the sample."""
        return self.book.seed + self.index


@runtime_checkable
class DrawsByCode(Protocol):
    """A policy that can let a code decide what it draws."""

    def with_code(self, code: Code) -> Policy:
        """Returns the same policy, whose draws the code decides, each from its first token on.

        Raises:
            ConfigError: if this policy cannot, because its engine lacks the logits processor or
                because its law is a point mass.
        """
        ...


def with_code(policy: Policy, code: Code) -> Policy:
    """Returns the policy with its draws decided by a code.

    Raises:
        ConfigError: if the policy cannot draw by codes; it is named.
    """
    if isinstance(policy, DrawsByCode):
        return policy.with_code(code)
    raise ConfigError(
        f"{type(innermost(policy)).__name__} cannot draw by the codes of arithmetic sampling: use "
        "VllmPolicy with an engine that rsalign starts, or BestOf, whose draws are independent"
    )


def decode(place: float, probs: Sequence[float]) -> tuple[int, float]:
    """Returns the token in whose interval a code lies, and the code of the next token.

    Args:
        place: the code, at least 0 and below 1.
        probs: of the next token, ``(vocab,)``; they sum to 1 up to rounding.

    Example:
        >>> decode(0.75, (0.5, 0.5))
        (1, 0.5)
    """
    ends = list(itertools.accumulate(probs))
    point = place * ends[-1]
    token = next((i for i, end in enumerate(ends) if point < end), None)
    if token is None or not probs[token]:  # rounding must not choose what is impossible
        token = max(i for i, p in enumerate(probs) if p > 0)
    before = ends[token] - probs[token]
    return token, min(max(0.0, (point - before) / probs[token]), 1.0 - 2.0**-53)

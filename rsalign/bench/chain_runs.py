"""Sizes of runs of chains, and what was measured of them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One size of a run.

    Attributes:
        num_prompts: open at once; where one is answered, the next begins.
        chains: of each.
        candidates: of each step.
        steps: of each chain.
        num_asked: prompts in all.
    """

    num_prompts: int
    chains: int
    candidates: int
    steps: int
    num_asked: int

    @property
    def num_open(self) -> int:
        """Chains at once."""
        return self.num_prompts * self.chains

    @property
    def num_steps(self) -> int:
        """Of all chains together."""
        return self.num_asked * self.chains * self.steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One measurement of free-running chains.

    Attributes:
        seconds: wall-clock time.
        drawn: tokens.
        cached: share of the prefixes' tokens that the policy's prefix cache had.
        effective: samples of all chains together; None where chains are too short.
    """

    seconds: float
    drawn: int
    cached: float
    effective: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Speed of free-running chains in units of that of others; above 1 is faster.

    Attributes:
        lock_step: the same chains with a barrier.
        unjudged: bare drawing, next to chains whose reward costs nothing.
        drawing: bare drawing, next to the chains.
        both: bare drawing and then bare judging, next to the chains.
    """

    lock_step: float
    unjudged: float
    drawing: float
    both: float

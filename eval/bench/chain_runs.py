"""Runs of chains for `python -m eval.bench qalign`: their sizes, measurements and tables."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSize:
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
        lock_step_bound: the same if policy and reward had a device each: the seconds of both
            engines with the barrier, in which one of them always waits, over those of the busier
            one without. The ratio cannot be greater; None where the seconds are not known.
        unjudged: bare drawing, next to chains whose reward costs nothing.
        drawing: bare drawing, next to the chains.
        both: bare drawing and then bare judging, next to the chains.
    """

    lock_step: float
    lock_step_bound: float | None
    unjudged: float
    drawing: float
    both: float


def speed_header(capacity: int) -> Iterator[str]:
    """Above the lines of `speed`."""
    yield ""
    yield f"free-running chains (sizes of more than {capacity} open requests are left out)"
    yield (
        f"{'prompts':>7} {'chains':>6} {'k':>3} {'steps/s':>8} {'effective/s':>12} "
        f"{'per 1,000 drawn':>16} {'drawn/s':>8} {'cached prefix':>14}"
    )


def speed(cell: RunSize, run: Measured, per_step: float, per_1000_drawn: float) -> str:
    """One line; effective samples of so many a step."""
    steps_per_second = cell.num_steps / run.seconds
    return (
        f"{cell.num_prompts:>7} {cell.chains:>6} {cell.candidates:>3} {steps_per_second:>8.1f} "
        f"{steps_per_second * per_step:>12.1f} {per_1000_drawn:>16.1f} "
        f"{run.drawn / run.seconds:>8.0f} {run.cached:>14.0%}"
    )


def comparisons(cells: Sequence[RunSize], rounds: Sequence[Sequence[Compared]]) -> Iterator[str]:
    """Medians of the ratios of each repeat; in brackets all of them."""
    if not cells:
        return
    yield ""
    yield f"free-running chains are so many times as fast as ... (median of {len(rounds)}; all)"
    yield "bound: lock-step, if policy and reward had a device each"
    yield (
        f"{'prompts':>7} {'chains':>6} {'lock-step':>24} {'bound':>6} {'bare drawing':>24} "
        f"{'+ bare judging':>24} {'unjudged/bare drawing':>24}"
    )
    for cell, column in zip(cells, zip(*rounds, strict=True), strict=True):
        ratios = (
            [one.lock_step for one in column],
            [one.drawing for one in column],
            [one.both for one in column],
            [one.unjudged for one in column],
        )
        first, *others = (f"{_times(ratio):>24}" for ratio in ratios)
        bounds = [one.lock_step_bound for one in column if one.lock_step_bound is not None]
        bound = f"{median(bounds):.2f}" if bounds else "-"
        yield f"{cell.num_prompts:>7} {cell.chains:>6} {first} {bound:>6} {' '.join(others)}"


def _times(ratios: Sequence[float]) -> str:
    return f"{median(ratios):.2f} ({' '.join(f'{ratio:.2f}' for ratio in sorted(ratios))})"

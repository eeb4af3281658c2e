"""The tables of `rsalign bench qalign`."""

from collections.abc import Iterator, Sequence
from statistics import median

from rsalign.bench.chain_runs import Cell, Compared, Measured


def speed_header(capacity: int) -> Iterator[str]:
    """Above the lines of `speed`."""
    yield ""
    yield f"free-running chains (sizes of more than {capacity} open requests are left out)"
    yield (
        f"{'prompts':>7} {'chains':>6} {'k':>3} {'steps/s':>8} {'effective/s':>12} "
        f"{'per 1,000 drawn':>16} {'drawn/s':>8} {'cached prefix':>14}"
    )


def speed(cell: Cell, run: Measured, per_step: float, per_1000_drawn: float) -> str:
    """One line; effective samples of so many a step."""
    steps_per_second = cell.num_steps / run.seconds
    return (
        f"{cell.num_prompts:>7} {cell.chains:>6} {cell.candidates:>3} {steps_per_second:>8.1f} "
        f"{steps_per_second * per_step:>12.1f} {per_1000_drawn:>16.1f} "
        f"{run.drawn / run.seconds:>8.0f} {run.cached:>14.0%}"
    )


def comparisons(cells: Sequence[Cell], rounds: Sequence[Sequence[Compared]]) -> Iterator[str]:
    """Medians of the ratios of each repeat; in brackets all of them."""
    if not cells:
        return
    yield ""
    yield f"free-running chains are so many times as fast as ... (median of {len(rounds)}; all)"
    yield (
        f"{'prompts':>7} {'chains':>6} {'lock-step':>24} {'bare drawing':>24} "
        f"{'+ bare judging':>24} {'unjudged/bare drawing':>24}"
    )
    for cell, column in zip(cells, zip(*rounds, strict=True), strict=True):
        ratios = (
            [one.lock_step for one in column],
            [one.drawing for one in column],
            [one.both for one in column],
            [one.unjudged for one in column],
        )
        shown = " ".join(f"{_times(ratio):>24}" for ratio in ratios)
        yield f"{cell.num_prompts:>7} {cell.chains:>6} {shown}"


def _times(ratios: Sequence[float]) -> str:
    return f"{median(ratios):.2f} ({' '.join(f'{ratio:.2f}' for ratio in sorted(ratios))})"

"""How often the intervals of reports cover the truth, by simulation.

    python -m eval.analysis.coverage [--studies 1000]

prints the table of docs/sweeps.md: one row for each kind of outcome, with the share of simulated
studies whose interval covers the true mean, and the mean width of the interval where it has ends.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import bernoulli, beta, binom, expon, norm, rv_discrete
from scipy.stats import t as student

from eval.analysis.intervals import DIFFERENCE, LEVEL, SCORE, Floats, mean_interval
from eval.analysis.items import ItemKey

RESAMPLES = 999
SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A kind of outcome that studies have.

    Attributes:
        draw: draws so many studies by a seed, ``(studies, clusters, items of each)``.
        truth: the true mean.
        bounds: see `mean_interval`.
    """

    draw: Callable[[int, int], Floats]
    truth: float
    bounds: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a simulation found.

    Attributes:
        covered: share of studies whose interval has the truth in it.
        endless: share of studies whose interval has no ends.
        width: mean width of the others.
    """

    covered: float
    endless: float
    width: float


def right_or_wrong(num_items: int, share: float) -> Outcome:
    """Answers that are right with this probability."""

    def draw(studies: int, seed: int) -> Floats:
        shape = (studies, num_items, 1)
        return np.asarray(bernoulli.rvs(share, size=shape, random_state=seed), dtype=float)

    return Outcome(draw=draw, truth=share, bounds=SCORE)


def several_seeds(num_items: int, share: float, seeds: int) -> Outcome:
    """Means over seeds; items differ in how hard they are, by a beta law of concentration 4."""

    def draw(studies: int, seed: int) -> Floats:
        shape = (studies, num_items, 1)
        easy = beta.rvs(4 * share, 4 * (1 - share), size=shape, random_state=seed)
        return np.asarray(binom.rvs(seeds, easy, random_state=seed + 1) / seeds)

    return Outcome(draw=draw, truth=share, bounds=SCORE)


def clusters(num_clusters: int, size: int, share: float) -> Outcome:
    """Variants of one question, as hard as it is."""

    def draw(studies: int, seed: int) -> Floats:
        shape = (studies, num_clusters, 1)
        easy = beta.rvs(2 * share, 2 * (1 - share), size=shape, random_state=seed)
        easy = np.repeat(easy, size, axis=2)
        return np.asarray(bernoulli.rvs(easy, random_state=seed + 1), dtype=float)

    return Outcome(draw=draw, truth=share, bounds=SCORE)


def differences(num_items: int, differing: float, mean: float = 0.0) -> Outcome:
    """Paired differences of right and wrong answers, of which this share is not 0."""
    better = (differing + mean) / 2
    law = rv_discrete(values=([1, -1, 0], [better, differing - better, 1 - differing]))

    def draw(studies: int, seed: int) -> Floats:
        return np.asarray(law.rvs(size=(studies, num_items, 1), random_state=seed), dtype=float)

    return Outcome(draw=draw, truth=mean, bounds=DIFFERENCE)


def rewards(num_items: int, law: Any) -> Outcome:
    """Values without bounds, by a law of `scipy.stats`."""

    def draw(studies: int, seed: int) -> Floats:
        return np.asarray(law.rvs(size=(studies, num_items, 1), random_state=seed))

    return Outcome(draw=draw, truth=float(law.mean()), bounds=None)


OUTCOMES: Mapping[str, Outcome] = {
    "30 items, each right with probability .95": right_or_wrong(30, 0.95),
    "20 items, .9": right_or_wrong(20, 0.9),
    "10 items, .5": right_or_wrong(10, 0.5),
    "50 items, .98": right_or_wrong(50, 0.98),
    "200 items, .95": right_or_wrong(200, 0.95),
    "30 items, .95, 3 seeds": several_seeds(30, 0.95, 3),
    "20 items, .6, 5 seeds": several_seeds(20, 0.6, 5),
    "15 clusters of 10 items, .7": clusters(15, 10, 0.7),
    "12 paired differences, 20 % not 0, mean 0": differences(12, 0.2),
    "40 paired differences, 10 % not 0, mean 0": differences(40, 0.1),
    "50 paired differences, 20 % not 0, mean .1": differences(50, 0.2, 0.1),
    "10 rewards, normal": rewards(10, norm()),
    "30 rewards, normal": rewards(30, norm()),
    "20 rewards, exponential": rewards(20, expon()),
    "20 rewards, Student's t(3)": rewards(20, student(3)),
}


def simulate(outcome: Outcome, studies: int, seed: int = SEED) -> Coverage:
    """Draws studies and counts whose interval covers the truth.

    Args:
        outcome: their kind.
        studies: how many.
        seed: of the draws.
    """
    found = [
        mean_interval(_keyed(study), bounds=outcome.bounds, resamples=RESAMPLES)
        for study in outcome.draw(studies, seed)
    ]
    widths = [one.high - one.low for one in found if one.is_known]
    return Coverage(
        covered=float(np.mean([not one.excludes(outcome.truth) for one in found])),
        endless=1 - len(widths) / studies,
        width=float(np.mean(widths)) if widths else float("nan"),
    )


def _keyed(study: Floats) -> dict[ItemKey, float]:
    return {
        ItemKey(f"c{cluster}", f"{cluster}-{i}"): float(value)
        for cluster, values in enumerate(study)
        for i, value in enumerate(values)
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--studies", type=int, default=1000)
    studies = parser.parse_args(arguments).studies
    print(f"| outcome | {100 * LEVEL:.0f} % intervals that cover | without ends | mean width |")
    print("|---|---:|---:|---:|")
    for name, outcome in OUTCOMES.items():
        found = simulate(outcome, studies)
        print(f"| {name} | {found.covered:.3f} | {found.endless:.3f} | {found.width:.3f} |")


if __name__ == "__main__":
    main()

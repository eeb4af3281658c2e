"""The best-of-n that reaches a given mean reward, and what it costs."""

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np

from eval.analysis.pools import best_of


def rewards_of_best(pools: Sequence[Sequence[float]]) -> list[float]:
    """The mean reward of best-of-n for n = 1, 2, ... up to the smallest pool, ``(n,)``.

    Args:
        pools: rewards of independent candidates of each prompt, ``(prompts, candidates)``.

    Example:
        >>> rewards_of_best([[0.0, 1.0], [2.0, 4.0, 6.0]])  # of 2: 1, and (4 + 6 + 6) / 3
        [2.25, 3.1666666666666665]
    """
    sizes = range(1, min(map(len, pools)) + 1)
    return [fmean(best_of(pool, pool, n) for pool in pools) for n in sizes]


def size_of_reward(reward: float, curve: Sequence[float]) -> float | None:
    """The n whose best-of-n has this mean reward, between whole numbers by a straight line.

    Args:
        reward: wanted.
        curve: as `rewards_of_best` returns it.

    Returns:
        None if no n of the curve reaches the reward, or already one candidate has more.

    Example:
        >>> size_of_reward(1.5, [0.0, 1.0, 2.0]), size_of_reward(3.0, [0.0, 1.0, 2.0])
        (2.5, None)
    """
    if not curve[0] <= reward <= curve[-1]:
        return None
    return float(np.interp(reward, curve, range(1, len(curve) + 1)))


def seconds_of_size(size: float, measured: Mapping[int, float]) -> float:
    """Seconds an answer of best-of-n, by a straight line through sizes that were measured.

    Args:
        size: n.
        measured: seconds by n; of one size alone, the line goes through 0.

    Example:
        >>> round(seconds_of_size(3.0, {2: 0.5, 4: 0.9}), 9)
        0.7
    """
    sizes, seconds = list(measured), list(measured.values())
    if len(sizes) == 1:
        return seconds[0] * size / sizes[0]
    slope, start = np.polyfit(sizes, seconds, 1)
    return float(start + slope * size)

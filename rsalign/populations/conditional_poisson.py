"""Conditional Poisson sampling: k of several items without replacement, with exact inclusions.

Law      a set S of k items with probability prod_{i in S} w_i / e_k(w), where e_k is the elementary
         symmetric polynomial: independent coins with odds w_i, given that k of them show heads.
         Item i is in the set with probability pi_i = w_i e_{k-1}(w without i) / e_k(w), which is
         computed from the design itself.
Paper    Hajek 1964; as a step of beam search: Meister et al. 2021, arXiv:2109.11034.
Cost     n k operations for the draw, and n^2 k for all inclusions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rsalign.core.key import Key


@dataclass(frozen=True, slots=True)
class Inclusion:
    """One item that was drawn.

    Attributes:
        index: of the item.
        prob: probability that the design draws it, above 0.
    """

    index: int
    prob: float


def draw_without_replacement(
    log_weights: Sequence[float], k: int, key: Key
) -> tuple[Inclusion, ...]:
    """Draws `k` items; all of them, each with probability 1, if there are no more.

    Args:
        log_weights: ln w, ``(items,)``; minus infinity excludes an item.
        k: number of items to draw, at least 1.
        key: the address; the decision about item i is at ``("item", i)``.

    Returns:
        In the order of their numbers.

    Example:
        >>> drawn = draw_without_replacement((0.0, 0.0, 0.0), 2, Key(0))
        >>> len(drawn), [round(one.prob, 6) for one in drawn]
        (2, [0.666667, 0.666667])
    """
    possible = [i for i, log in enumerate(log_weights) if log > -math.inf]
    if len(possible) <= k:
        return tuple(Inclusion(i, 1.0) for i in possible)
    highest = max(log_weights[i] for i in possible)
    logs = [log_weights[i] - highest for i in possible]
    after = _suffix_sums(logs, k)
    chosen: list[int] = []
    for place, log in enumerate(logs):
        left = k - len(chosen)
        if left == 0:
            break
        # P(in | the decisions so far) = w e_{left-1}(later items) / e_left(this and later items)
        prob = math.exp(log + after[place + 1][left - 1] - after[place][left])
        if key.child("item", possible[place]).bernoulli(min(1.0, prob)):
            chosen.append(place)
    return tuple(Inclusion(possible[i], _inclusion(logs, i, k, after[0][k])) for i in chosen)


def _inclusion(logs: Sequence[float], item: int, k: int, log_total: float) -> float:
    others = [log for i, log in enumerate(logs) if i != item]
    return min(1.0, math.exp(logs[item] + _suffix_sums(others, k - 1)[0][k - 1] - log_total))


def _suffix_sums(logs: Sequence[float], k: int) -> list[list[float]]:
    """Ln e_j of the items from each place on, for j = 0 .. k, ``(items + 1, k + 1)``."""
    sums = [[0.0] + [-math.inf] * k]
    for log in reversed(logs):
        later = sums[-1]
        sums.append([0.0] + [_log_add(later[j], log + later[j - 1]) for j in range(1, k + 1)])
    return sums[::-1]


def _log_add(one: float, other: float) -> float:
    high, low = max(one, other), min(one, other)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))

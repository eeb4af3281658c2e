"""Weights of answers that were drawn without replacement, so that weighted means are unbiased.

Answers are drawn until n different ones have been seen, or `max_draws` draws were made. The weight
of an answer is the probability that it was the *first* draw, given which set of answers was seen.
The first draw is one draw of the policy, so that the weighted mean of any function over the set has
the expectation of the function under the policy, exactly (Rao-Blackwell). As `max_draws` grows,
these are the weights of Murthy's estimator, which is that of Raj averaged over all orders (Raj
1956; Murthy 1957; Kool et al. 2020, arXiv:2002.06043).
"""

import math
from collections.abc import Sequence

import numpy as np

MOST_DIFFERENT = 16
"""Greatest number of answers: the computation takes all subsets of them."""


def first_draw_weights(probs: Sequence[float], *, max_draws: int, ended: bool) -> tuple[float, ...]:
    """Returns the probability of each answer to have been drawn first, given the set.

    Args:
        probs: of the answers that were seen, under the policy, ``(answers,)``; their sum may exceed
            1 by rounding.
        max_draws: greatest number of draws.
        ended: whether the draws ended with the last of these answers; False: they ended because
            `max_draws` were made.

    Returns:
        They sum to 1, ``(answers,)``.

    Example:
        >>> weights = first_draw_weights((0.5, 0.25), max_draws=1000, ended=True)
        >>> [round(weight, 3) for weight in weights]  # 0.5 * 0.25 / 0.5 to 0.25 * 0.5 / 0.75
        [0.6, 0.4]
    """
    total = math.fsum(probs)
    p = np.asarray(probs, dtype=np.float64) / max(1.0, total)
    subsets = np.arange(1 << len(p))
    inside = ((subsets[:, None] >> np.arange(len(p))) & 1) * p
    stays = inside.sum(1)  # the next draw repeats one of the subset
    whole = len(subsets) - 1
    # after each number of draws, from the last: P(the draws end with the whole set | the subset)
    ends = np.zeros(len(subsets))
    ends[whole] = 1.0
    for _ in range(max_draws - 1):
        later = stays * ends
        for i, prob in enumerate(p):
            without = (subsets >> i) & 1 == 0
            later[without] += prob * ends[subsets[without] | (1 << i)]
        if ended:
            later[whole] = 1.0
        if np.array_equal(later, ends):
            break  # more draws change nothing
        ends = later
    first = p * ends[1 << np.arange(len(p))]
    return tuple(float(weight) for weight in first / first.sum())

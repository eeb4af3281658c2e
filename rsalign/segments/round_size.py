"""How many drafts of a segment to draw at once, so that an accepted one costs least.

A step of an engine costs a fixed part, in which the weights are read, and a part for each request.
With h the fixed part divided by the number of open requests, in units of what one more request
costs, a round of m drafts costs h + m, and one of them is accepted with probability 1 - (1 - a)^m.
Rounds are repeated until one is: their expected cost is (h + m) / (1 - (1 - a)^m).
"""

import math

MOST_AT_ONCE = 8
"""More drafts save hardly a round at useful acceptance rates."""


def round_size(num_tested: int, num_accepted: int, headroom: float) -> int:
    """The number of drafts to draw at once, from 1 to `MOST_AT_ONCE`.

    Args:
        num_tested: drafts that were tested so far.
        num_accepted: those of them that were accepted. The acceptance rate a is estimated as if
            one more had been tested, and accepted.
        headroom: h above (`rsalign.core.protocols.Loaded`). If it is infinite, nothing is known of
            costs, and 1 / a are drawn at once: the expected number of tries.

    Example:
        >>> [round_size(4, 1, headroom) for headroom in (0.2, 1.0, 6.0, math.inf)]
        [1, 2, 3, 3]
    """
    rate = (num_accepted + 1) / (num_tested + 1)
    if math.isinf(headroom):
        return min(MOST_AT_ONCE, math.ceil(1 / rate))

    def expected_cost(size: int) -> float:
        return (headroom + size) / (1.0 - (1.0 - rate) ** size)

    return min(range(1, MOST_AT_ONCE + 1), key=expected_cost)

"""Whether the leading answer of a vote is decided: a sequential test with a stated level.

Of the votes that two answers get, let p be the share of the leader in the long run. Against
p <= 1/2 the mixture over p > 1/2 of likelihood ratios is a test martingale, so that by Ville's
inequality it exceeds 1 / level with probability `level` at most, however long one looks (the
anytime-valid form of the tests in Aggarwal et al. 2023, arXiv:2305.11860, and of PPR-1v1, Jain et
al. 2022).

>>> log_evidence(1, 1) < 0 < log_evidence(12, 1)
True
"""

import math
from collections.abc import Sequence


def log_evidence(leader: float, rival: float) -> float:
    """Ln of the evidence that the leader's long-run share is greater than the rival's.

    ln (2 * integral over p from 1/2 to 1 of (2 p)^leader (2 (1 - p))^rival).

    Args:
        leader: votes of the one, at least 0; need not be whole.
        rival: votes of the other.
    """
    from scipy.special import betainc, betaln

    upper = 1.0 - betainc(leader + 1, rival + 1, 0.5)
    if upper <= 0:
        return -math.inf
    log_integral = betaln(leader + 1, rival + 1) + math.log(upper)
    return float(log_integral + (leader + rival + 1) * math.log(2))


def decided(votes: Sequence[float], order: int, error: float) -> bool:
    """Whether one answer leads all others, those never seen included.

    With probability `error` at most it ever says so of an answer that is not the most probable one,
    if votes are independent draws. Answers share the level by the order in which they were first
    seen, error / (j (j + 1)) for the j-th, and a leader's first vote, which brought it into the
    race, does not count.

    Args:
        votes: of the leader first, then of each rival that was seen.
        order: the leader was the `order`-th answer to be seen, from 1.
        error: above 0 and below 1.
    """
    leader, *rivals = votes
    strongest = max(rivals, default=0.0)
    needed = math.log(order * (order + 1) / error)
    return log_evidence(max(0.0, leader - 1), strongest) >= needed

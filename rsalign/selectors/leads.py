"""Leads: whether the vote of independent draws is decided, so that no more need be drawn.

`log_evidence` and `is_decided` are a sequential test with a stated error level. `BetaLead` and
`DirichletLead` are Bayesian: they stop at a posterior confidence, which is no error level, because
every look at the votes is another chance to stop too early.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from rsalign.core.checks import above, check_settings


@runtime_checkable
class Lead(Protocol):
    """A rule that says when the vote of independent draws is decided. An immutable value."""

    def decided(self, answers: Sequence[str | None]) -> bool:
        """Whether the most frequent answer needs no more votes.

        Args:
            answers: of all draws so far, in the order of their numbers; None: no vote.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BetaLead:
    """Stops when the leader beats the runner-up with a posterior probability.

    Paper: Aggarwal et al. 2023, arXiv:2305.11860 (Adaptive-Consistency, Beta stopping). The votes
    of the two are binomial with a uniform prior. No error level holds over all looks.

    Attributes:
        confidence: posterior probability at which it stops, above 0 and below 1.

    Raises:
        ConfigError: if `confidence` is not between 0 and 1.

    Example:
        >>> BetaLead().decided(["4", "4", "4", "3"]), BetaLead().decided(["4"] * 5)
        (False, True)
    """

    confidence: float = 0.95

    def __post_init__(self) -> None:
        check_settings(self, confidence=above(0.0, below=1.0))

    def decided(self, answers: Sequence[str | None]) -> bool:
        """Whether the posterior probability is reached."""
        leader, rival = (*_counts(answers), 0, 0)[:2]
        return leader > 0 and beta_confidence(leader, rival) >= self.confidence


@dataclass(frozen=True, slots=True, kw_only=True)
class DirichletLead:
    """Stops when the leader beats all other answers with a posterior probability.

    Paper: as `BetaLead`, Dirichlet stopping: a uniform prior over the answers seen so far and one
    more, which stands for all unseen ones. The probability is computed by quadrature, not sampled.
    No error level holds over all looks.

    Attributes:
        confidence: posterior probability at which it stops, above 0 and below 1.

    Raises:
        ConfigError: if `confidence` is not between 0 and 1.

    Example:
        >>> votes = ["4"] * 5 + ["3"]
        >>> DirichletLead(confidence=0.9).decided(votes), DirichletLead().decided(votes)
        (True, False)
    """

    confidence: float = 0.95

    def __post_init__(self) -> None:
        check_settings(self, confidence=above(0.0, below=1.0))

    def decided(self, answers: Sequence[str | None]) -> bool:
        """Whether the posterior probability is reached."""
        counts = _counts(answers)
        return bool(counts) and dirichlet_confidence(counts) >= self.confidence


def beta_confidence(leader: float, rival: float) -> float:
    """P(p > 1/2) for p ~ Beta(leader + 1, rival + 1), the leader's share against its rival.

    Example:
        >>> beta_confidence(0, 0), round(beta_confidence(3, 0), 4)
        (0.5, 0.9375)
    """
    from scipy.special import betainc

    return float(betainc(rival + 1, leader + 1, 0.5))


def dirichlet_confidence(counts: Sequence[float]) -> float:
    """P(the first share is the greatest) for shares ~ Dirichlet(counts + 1, and 1 for unseen).

    The shares are independent Gamma variables over their sum, so that the probability is
    the integral of the first one's density times the others' distribution functions.

    Args:
        counts: votes of the leader first, then of the others.

    Example:
        >>> round(dirichlet_confidence([0]), 4), round(dirichlet_confidence([3]), 4)
        (0.5, 0.9375)
    """
    import numpy as np
    from scipy.special import gammainc, gammaincinv, roots_legendre

    leader, *others = counts
    # substituting the leader's quantile u, the integral is one over (0, 1) of a bounded function
    nodes, weights = roots_legendre(128)
    x = gammaincinv(leader + 1, (nodes + 1) / 2)
    below = np.prod([gammainc(count + 1, x) for count in (*others, 0)], axis=0)
    return float(np.sum(weights * below) / 2)


def log_evidence(leader: float, rival: float) -> float:
    """The logarithm of the evidence that the leader's long-run share exceeds the rival's.

    Let p be the leader's share of the votes that the two get in the long run. The mixture over
    p > 1/2 of likelihood ratios against p = 1/2 is
    ln (2 * integral over p from 1/2 to 1 of (2 p)^leader (2 (1 - p))^rival).
    If p <= 1/2, its exponential is a test martingale. By Ville's inequality it then exceeds
    1 / level with probability at most `level`, however often one looks (the anytime-valid form of
    the tests in Aggarwal et al. 2023, arXiv:2305.11860, and of PPR-1v1, Jain et al. 2022).

    Args:
        leader: votes of the leader, at least 0; need not be whole.
        rival: votes of the rival.
    """
    from scipy.special import betainc, betaln

    upper = 1.0 - betainc(leader + 1, rival + 1, 0.5)
    if upper <= 0:
        return -math.inf
    log_integral = betaln(leader + 1, rival + 1) + math.log(upper)
    return float(log_integral + (leader + rival + 1) * math.log(2))


def is_decided(votes: Sequence[float], order: int, error: float) -> bool:
    """Whether one answer leads all others, those not seen so far included.

    If votes are independent draws, the probability that it is ever true for an answer that is not
    the most probable one is at most `error`. Answers share this level by the order in which they
    were first seen: the j-th gets error / (j (j + 1)). The first vote of the leader, without which
    it would not be tested, does not count.

    Args:
        votes: of the leader first, then of each rival that was seen.
        order: the leader was the `order`-th answer to be seen, from 1.
        error: above 0 and below 1.
    """
    leader, *rivals = votes
    strongest = max(rivals, default=0.0)
    needed = math.log(order * (order + 1) / error)
    return log_evidence(max(0.0, leader - 1), strongest) >= needed


def _counts(answers: Sequence[str | None]) -> list[int]:
    """Votes of the answers, the greatest first."""
    return [count for _, count in Counter(a for a in answers if a is not None).most_common()]

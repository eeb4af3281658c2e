"""KL of what was accepted by rejection sampling, from how many tries it took.

A draft s of pi is accepted with probability a(s), so that s has the law pi(s) a(s) / A, where A is
the probability of accepting any. The divergence is E[ln a(s)] - ln A. Nobody tells A; but if the
first to be accepted is the T-th, which is independent of s, then 1 + 1/2 + ... + 1/(T - 1) has the
mean sum_k P(T > k) / k = sum_k (1 - A)^k / k = -ln A: an unbiased estimate from one answer.
Segments add up, each given what was kept before it.
"""

import math
from collections import Counter
from collections.abc import Sequence

from eval.record import MOST_CANDIDATES
from eval.records import Record
from rsalign.core.capabilities import AnswerLaw

MOST_LEFT_OUT = 0.02
"""Share of the answers without an estimate, above which the mean of the others is called too low.

What is left out had the most tries. Where every second try is accepted and one answer in fifty is
forced, the mean of the others is about 0.04 nats too low, which is less than an interval is wide;
where one in two is, it may be below 0, which no divergence is.
"""
_LAWS = (AnswerLaw.REJECTION, AnswerLaw.REJECTION_GIVEN_TARGET)


def accepted_kl(record: Record) -> float | None:
    """Estimates KL(law || policy) from one answer, nats; the mean over answers is unbiased.

    Returns:
        None if the strategy is no rejection sampling, or what it took was not accepted: it failed,
        ended at a hard limit, or was forced when its tries ran out. Where that is often, the mean
        of the others is too low (`is_too_low`).
    """
    proposals = record["proposals"]
    if (
        record["answer_law"] not in _LAWS
        or record["error"] is not None
        or record["forced"]
        or record["expired"]
        or not 0 < len(proposals) < MOST_CANDIDATES
    ):
        return None
    tries = Counter(proposal["kept"] for proposal in proposals)
    log_accepts = [one["log_accept"] for one in proposals if one["verdict"] == "accepted"]
    return math.fsum(log_accepts) + math.fsum(map(_harmonic, tries.values()))


def is_too_low(records: Sequence[Record]) -> bool:
    """Tells whether too many answers have no estimate, so that the mean of the others is too low.

    Args:
        records: of one rejection sampler; those that failed have no answer, and do not count.
    """
    answered = [record for record in records if record["error"] is None]
    left_out = sum(accepted_kl(record) is None for record in answered)
    return left_out > MOST_LEFT_OUT * len(answered)


def _harmonic(tries: int) -> float:
    """Sums 1 + 1/2 + ... + 1 / (tries - 1)."""
    return math.fsum(1 / k for k in range(1, tries))

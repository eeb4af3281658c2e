"""Acceptance probabilities: which of the current state and some proposals comes next.

All states share the tokens that were kept before the cut, and every proposal was drawn from the
policy given these. The policy's own probability therefore cancels, and one number tells the worth
of a state: ln v(y) = ln w(y) - ln H(y), where the target is pi(y) w(y) and H is the normaliser of
the cut law.

>>> [round(p, 3) for p in multi_try(math.log(2.0), [math.log(1.0)])]
[0.5, 0.5]
>>> [round(p, 3) for p in iterated_resampling(math.log(2.0), [math.log(1.0), math.log(1.0)])]
[0.5, 0.25, 0.25]
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

Combine: TypeAlias = Literal["multi_try", "i_sir"]
"""How several proposals of one step compete, by the name of the rule in `COMBINE`."""


def multi_try(current: float, proposals: Sequence[float]) -> tuple[float, ...]:
    """Independent multiple-try Metropolis; with one proposal it is Metropolis-Hastings.

    Proposal j is picked with probability v_j / V, where V is the sum of all v_j, and accepted with
    probability min(1, V / (V - v_j + v)). Proposals that do not depend on the current state need no
    reference draws: detailed balance holds term by term (Liu, Liang and Wong 2000, with independent
    tries).

    Args:
        current: ln v of the state; minus infinity if the target excludes it.
        proposals: ln v of each proposal, ``(proposals,)``, at least one.

    Returns:
        Probabilities of staying and of each proposal, ``(1 + proposals,)``; they sum to 1.
    """
    v, tried = _scaled(current, proposals)
    total = math.fsum(tried)
    if total == 0:
        return (1.0, *(0.0 for _ in tried))
    moves = [one / total * min(1.0, total / max(total - one + v, math.ulp(total))) for one in tried]
    return (max(0.0, 1.0 - math.fsum(moves)), *moves)


def iterated_resampling(current: float, proposals: Sequence[float]) -> tuple[float, ...]:
    """i-SIR: draws the next state from the current one and all proposals, in proportion to v.

    There is no separate rejection, yet the chain stays more often than with `multi_try` (Andrieu,
    Lee and Vihola 2018; Tjelmeland 2004). Arguments and result are those of `multi_try`.
    """
    v, tried = _scaled(current, proposals)
    total = math.fsum((v, *tried))
    if total == 0:
        return (1.0, *(0.0 for _ in tried))
    return (v / total, *(one / total for one in tried))


COMBINE: dict[Combine, Callable[[float, Sequence[float]], tuple[float, ...]]] = {
    "multi_try": multi_try,
    "i_sir": iterated_resampling,
}
"""The rules by name."""


def log_swap(one: float, other: float, factor: float, other_factor: float) -> float:
    """The log-probability that two tempered replicas exchange their states, nats.

    The replicas target pi w^(1/f) and pi w^(1/g). An exchange with probability
    min(1, (w_other / w_one)^(1/f - 1/g)) keeps the product of both invariant. No model is asked.

    Args:
        one: ln w of the state at `factor`.
        other: ln w of the state at `other_factor`.
        factor: f, above 0; infinity is the policy itself.
        other_factor: g.
    """
    after = tempered(other, factor) + tempered(one, other_factor)
    before = tempered(one, factor) + tempered(other, other_factor)
    if before == -math.inf:  # one of them has an excluded state: any allowed pair is better
        return 0.0 if after > before else -math.inf
    return min(0.0, after - before)


def tempered(log_weight: float, factor: float) -> float:
    """Ln w^(1/factor); an excluded state (minus infinity) stays excluded at every factor."""
    if log_weight == -math.inf:
        return log_weight
    return 0.0 if math.isinf(factor) else log_weight / factor


def _scaled(current: float, proposals: Sequence[float]) -> tuple[float, list[float]]:
    """The values v, scaled so that the greatest is 1 and nothing overflows."""
    highest = max(current, *proposals)
    if highest == -math.inf:
        return 0.0, [0.0] * len(proposals)
    return math.exp(current - highest), [math.exp(log_v - highest) for log_v in proposals]

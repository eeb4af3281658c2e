"""Which of the current state and some proposals comes next, as probabilities.

All states share what was kept before a cut, and every proposal was drawn from the policy given
that, so that the policy's own probability cancels and one number tells a state's worth:
ln v(y) = ln w(y) - ln H(y), where the target is pi(y) w(y) and H is the cut law's normaliser.

>>> [round(p, 3) for p in multi_try(math.log(2.0), [math.log(1.0)])]
[0.5, 0.5]
>>> [round(p, 3) for p in iterated_resampling(math.log(2.0), [math.log(1.0), math.log(1.0)])]
[0.5, 0.25, 0.25]
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

Combine: TypeAlias = Literal["multi_try", "i_sir"]


def multi_try(current: float, proposals: Sequence[float]) -> tuple[float, ...]:
    """Independent multiple-try Metropolis; with one proposal, Metropolis-Hastings.

    Proposal j is picked with probability v_j / V, where V is the sum of all v_j, and accepted with
    min(1, V / (V - v_j + v)). Proposals that do not depend on the current state need no reference
    draws: detailed balance holds term by term (Liu, Liang and Wong 2000, with independent tries).

    Args:
        current: ln v of the state; minus infinity: it cannot be stayed at.
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
    """i-SIR: the next state is drawn from the current one and all proposals, in proportion to v.

    Never "rejected", yet it stays more often than `multi_try` (Andrieu, Lee and Vihola 2018;
    Tjelmeland 2004). Arguments and result as there.
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
    """Ln of the probability that two tempered replicas exchange their states.

    The replicas target pi w^(1/f) and pi w^(1/g); the exchange that leaves their product as it is
    has probability min(1, (w_other / w_one)^(1/f - 1/g)). No model is asked.

    Args:
        one: ln w of the state at `factor`.
        other: ln w of the state at `other_factor`.
        factor: f, above 0; infinity is the policy itself.
        other_factor: g.
    """
    after = tempered(other, factor) + tempered(one, other_factor)
    before = tempered(one, factor) + tempered(other, other_factor)
    if before == -math.inf:  # one of them is where it cannot be: anything possible is better
        return 0.0 if after > before else -math.inf
    return min(0.0, after - before)


def tempered(log_weight: float, factor: float) -> float:
    """Ln w^(1/factor), where a state that is excluded stays so at every factor."""
    if log_weight == -math.inf:
        return log_weight
    return 0.0 if math.isinf(factor) else log_weight / factor


def _scaled(current: float, proposals: Sequence[float]) -> tuple[float, list[float]]:
    """The v themselves, scaled so that the greatest is 1: nothing overflows."""
    highest = max(current, *proposals)
    if highest == -math.inf:
        return 0.0, [0.0] * len(proposals)
    return math.exp(current - highest), [math.exp(log_v - highest) for log_v in proposals]

"""Estimates from a pool of candidates: weights, effective sample sizes and divergences.

A pool is n independent draws of one law, here called the policy. A selector gives each candidate a
probability. Everything here is computed from the pool alone.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence


def tilted_weights(rewards: Sequence[float], temperature: float) -> tuple[float, ...]:
    """Self-normalised importance weights of the tilted law pi(y) exp(r(y) / temperature).

    Adding a constant to all rewards changes nothing, and weights are positive whatever the sign of
    a reward. The greatest exponent is 0, so that nothing overflows.

    Args:
        rewards: ``(candidates,)``, at least one, finite.
        temperature: in the reward's units, above 0.

    Returns:
        Weights that sum to 1, ``(candidates,)``.

    Example:
        >>> [round(weight, 3) for weight in tilted_weights((0.0, 1.0), 1.0)]
        [0.269, 0.731]
    """
    highest = max(rewards)
    weights = [math.exp((reward - highest) / temperature) for reward in rewards]
    total = math.fsum(weights)
    return tuple(weight / total for weight in weights)


def effective_sample_size(weights: Sequence[float]) -> float:
    """The number of equal weights that these are worth: (sum w)^2 / sum w^2 (Kish 1965).

    It lies between 1 (one weight has everything) and the number of weights (all are equal).

    Args:
        weights: non-negative, not all zero, ``(candidates,)``; they need not sum to one.
    """
    highest = max(weights)  # scaled, so that tiny weights do not vanish when squared
    scaled = [weight / highest for weight in weights]
    return math.fsum(scaled) ** 2 / math.fsum(weight * weight for weight in scaled)


def pool_kl(probs: Sequence[float], responses: Sequence[Hashable]) -> float:
    """An upper estimate of KL(law of the selected response || policy), nats.

    With Q(y) the probability of selecting response y from this pool and P(y) its share of the
    pool, it is sum_y Q(y) ln(Q(y) / P(y)); where no response occurs twice: ln n + sum_i p_i ln p_i.

    Its mean over pools is at least the divergence. Proof: let J be selected by `probs` and U
    uniformly, both from the same pool. The pool's candidates are exchangeable, so that y_U has the
    policy's law. By the chain rule KL((pool, y_J) || (pool, y_U)) is the mean of the sum above, and
    dropping the pool cannot increase a divergence. The bound is loose for a deterministic choice
    (ln n at most; compare `best_of_kl`) and tight if the choice depends little on the pool.

    Args:
        probs: probability of each candidate being selected, given the pool, ``(candidates,)``; they
            sum to 1.
        responses: values that are equal if and only if the responses are, ``(candidates,)``.
    """
    selected: defaultdict[Hashable, list[float]] = defaultdict(list)
    for prob, response in zip(probs, responses, strict=True):
        selected[response].append(prob)
    terms = []
    for parts in selected.values():
        mass = math.fsum(parts)
        if mass > 0:
            terms.append(mass * math.log(mass * len(probs) / len(parts)))
    return max(0.0, math.fsum(terms))  # rounding alone can make it negative


def best_of_kl(n: int) -> float:
    """KL(best of n || policy) if no two rewards are equal and no response has mass, nats.

    The rank u of the best among n has density n u^(n-1) on (0, 1), so the divergence is ln n +
    (n - 1) E[ln u] = ln n - (n - 1) / n. It is an upper bound if rewards or responses repeat
    (Beirami et al. 2024, arXiv:2401.01879).
    """
    return math.log(n) - (n - 1) / n


def top_kl(n: int, kept: int) -> float:
    """An upper bound of KL(uniform among the best `kept` of n || policy), nats: ln(n / kept).

    The probability of no candidate is more than n / kept times that of a uniform choice. Therefore
    the probability of no response is more than n / kept times the policy's.
    """
    return math.log(n / kept)


def chi_squared_depth(rewards: Sequence[float], beta: float) -> float:
    """How far below the highest reward the threshold lambda of the chi-squared law lies, above 0.

    At lambda the mean of the weights relu(r - lambda) / beta is 1. The sum of r_i - lambda over the
    k highest rewards is at most the sum of all positive parts, with equality for the right k.
    Therefore the depth is the least over k of (gap_1 + ... + gap_k + beta n) / k, where gap_i is
    the distance of r_i below the highest reward. The depth is returned, not lambda itself: for a
    beta below the rounding error of the rewards lambda would be the highest reward, and no
    candidate would have any weight.

    Args:
        rewards: ``(candidates,)``, at least one, finite.
        beta: in the reward's units, above 0.

    Returns:
        In the reward's units; infinity if beta is too large for a float, and all weights are equal.
    """
    highest, n = max(rewards), len(rewards)
    depths, total = [], 0.0
    for k, reward in enumerate(sorted(rewards, reverse=True), start=1):
        total += highest - reward
        depths.append((total + beta * n) / k)
    return min(depths)


def mean_and_sd(rewards: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of the rewards themselves (divided by their number).

    It is accurate for rewards as large as floats can be: their sum and their squares are never
    computed.

    Args:
        rewards: ``(draws,)``, at least one, finite.
    """
    n = len(rewards)
    _, exponent = math.frexp(max(map(abs, rewards)))
    # a power of two: it rounds nothing
    scaled = [math.ldexp(reward, -exponent) for reward in rewards]
    mean = math.fsum(scaled) / n
    variance = math.fsum((value - mean) ** 2 for value in scaled) / n
    return math.ldexp(mean, exponent), math.ldexp(math.sqrt(variance), exponent)

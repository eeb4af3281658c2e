"""Diagnostics of the chains of one prompt: how far they have mixed, and the target's divergence.

Effective sample sizes and R-hat are those of Vehtari et al. 2021, arXiv:1903.08008
(rank-normalised, bulk, split), computed by arviz-stats.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

from rsalign.chains.history import History, WeightedSample
from rsalign.chains.kernel import LogWeight
from rsalign.core.trace import Note
from rsalign.core.types import Candidate, Stop, Tokens

_BINS = 10

CHAIN_NOTES = {
    "num_steps": "of each chain, that count",
    "acceptance_rate": "share of the tried that were accepted",
    "num_without_cut": "steps whose cut fell behind the end",
    "num_distinct_states": "different responses among the states",
    "share_truncated": "share of states that reached the greatest length",
    "mean_reward": "of the target, as estimated",
    "ess_reward": "effective sample size of the reward",
    "ess_length": "effective sample size of the length",
    "r_hat_reward": "near 1: chains agree about the reward",
    "r_hat_length": "near 1: chains agree about the length",
    "swap_rate": "share of exchanges with the next replica that were made",
    "log_z": "estimate of ln Z, nats",
    "kl": "estimate of KL(target || policy), nats",
    "stopped_early": "a rule ended the run before its last step",
}
"""What the notes of `summary` mean (`rsalign.core.capabilities.note_meanings`)."""


def effective_samples(rows: Sequence[Sequence[float]]) -> float | None:
    """Bulk effective sample size of all chains together.

    Args:
        rows: one value per state, ``(chains, draws)``, chains of equal length.

    Returns:
        None if a chain has fewer than four values, or if all values are equal.

    Example:
        >>> effective_samples([[0.0, 1.0, 0.0]]) is None
        True
    """
    if len(rows[0]) < 4 or len({value for row in rows for value in row}) == 1:
        return None
    return _finite(_statistics().ess(_array(rows), chain_axis=0, draw_axis=1, method="bulk"))


def r_hat(rows: Sequence[Sequence[float]]) -> float | None:
    """Rank-normalised split R-hat: near 1 if the chains agree.

    A single chain is split into two halves, which are compared.

    Args:
        rows: one value per state, ``(chains, draws)``, chains of equal length.

    Returns:
        None if a chain has fewer than four values, or if all values are equal.
    """
    if len(rows) == 1:
        half = len(rows[0]) // 2
        rows = (rows[0][:half], rows[0][half : 2 * half])
    if len(rows[0]) < 4 or len({value for row in rows for value in row}) == 1:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a chain that never moves has no variance
        return _finite(_statistics().rhat(_array(rows), chain_axis=0, draw_axis=1, method="rank"))


def log_normaliser(draws: Sequence[Candidate], log_weight: LogWeight) -> float | None:
    """An estimate of ln Z, where Z is the mean of w under the policy; None if all w are 0.

    Args:
        draws: independent draws of the policy, ``(draws,)``.
        log_weight: ln w.
    """
    logs = [log_weight(draw) for draw in draws]
    highest = max(logs)
    if highest == -math.inf:
        return None
    return highest + math.log(math.fsum(math.exp(log - highest) for log in logs) / len(logs))


def independent_draws(histories: Sequence[History], pool: Sequence[Candidate]) -> list[Candidate]:
    """All whole responses drawn from the policy: the pool, and the proposals of cuts at 0."""
    proposals = (
        proposal
        for history in histories
        for step in history.steps
        if step.cut == 0 and step.from_policy
        for proposal in step.considered[1:]
    )
    return [*pool, *proposals]


def summary(
    histories: Sequence[History],
    sample: WeightedSample,
    pool: Sequence[Candidate],
    log_weight: LogWeight,
    *,
    burn_in: int,
) -> dict[str, Note]:
    """All notes of a strategy about its chains; `CHAIN_NOTES` says what they mean.

    Args:
        histories: of the chains, ``(chains,)``.
        sample: the weighted sample that the answer was chosen from.
        pool: draws of the policy that the chains were started from.
        log_weight: ln w.
        burn_in: number of first states of each chain that do not count.
    """
    steps = [step for history in histories for step in history.steps]
    # an excluded state has no reward; a chain may begin there and does not return
    allowed = [history.allowed_states(burn_in) for history in histories]
    states = [row for row in allowed if row] or [list(sample.candidates)]
    shortest = min(len(row) for row in states)
    rewards = [[state.reward for state in row[:shortest]] for row in states]
    lengths = [[float(len(state.tokens)) for state in row[:shortest]] for row in states]
    flat = [state for row in states for state in row]
    tried = [step for step in steps if step.cut is not None]
    by_cut = _by_cut(histories)
    swaps = [exchanged for history in histories for exchanged in history.swaps]
    independent = independent_draws(histories, pool)
    log_z = log_normaliser(independent, log_weight)
    logs = [log_weight(candidate) for candidate in sample.candidates]
    tilt = sample.mean(logs) if min(logs) > -math.inf else None
    distinct: set[Tokens] = {state.tokens for state in flat}
    return {
        "num_steps": min(len(history.steps) for history in histories),
        "acceptance_rate": sum(step.moved for step in tried) / len(tried) if tried else None,
        "num_cuts_by_position": tuple(float(number) for number, _ in by_cut),
        "num_accepted_by_position": tuple(float(accepted) for _, accepted in by_cut),
        "num_without_cut": len(steps) - len(tried),
        "num_distinct_states": len(distinct),
        "share_truncated": sum(s.response.stop is Stop.LENGTH for s in flat) / len(flat),
        "rewards": tuple(value for row in rewards for value in row),
        "mean_reward": sample.mean([candidate.reward for candidate in sample.candidates]),
        "ess_reward": effective_samples(rewards),
        "ess_length": effective_samples(lengths),
        "r_hat_reward": r_hat(rewards),
        "r_hat_length": r_hat(lengths),
        "swap_rate": sum(swaps) / len(swaps) if swaps else None,
        "log_z": log_z,
        "kl": _divergence(tilt, log_z, len(independent)),
    }


def _divergence(tilt: float | None, log_z: float | None, num_draws: int) -> float | None:
    """KL(target || policy), nats; None if there are too few draws of the policy to tell.

    Weights on n draws diverge from equal ones by at most ln n nats. A greater estimate means that
    the chain has found responses that none of the draws had. ln Z is then too low, and the estimate
    is not valid.
    """
    if tilt is None or log_z is None:
        return None
    found = max(0.0, tilt - log_z)
    return found if found <= math.log(num_draws) else None


def _by_cut(histories: Sequence[History]) -> list[tuple[int, int]]:
    """Number of cuts, and of those with an accepted proposal, by tenths of the state's length."""
    bins = [(0, 0)] * _BINS
    for history in histories:
        for step in history.steps:
            if step.cut is not None:
                i = step.cut * _BINS // step.length
                number, accepted = bins[i]
                bins[i] = (number + 1, accepted + step.moved)
    return bins


def _statistics() -> Any:
    from arviz_stats.base import array_stats  # type: ignore[attr-defined] # half a second

    return array_stats


def _array(rows: Sequence[Sequence[float]]) -> Any:
    import numpy as np

    return np.asarray(rows, dtype=float)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None

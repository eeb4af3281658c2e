"""The reward as a verifier: draw until one answer passes, and what its mistakes make of that.

Answers with a reward of at least a threshold pass. What passes although it is wrong makes more
draws worth less, and at last harmful, if a wrong answer costs more than none
(Stroebl et al. 2024, arXiv:2411.17501). Everything here is exact for the pools at hand: of n draws
without replacement the first that passes is any of those that pass, with equal probability.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eval.analysis import pools
from eval.analysis.over_optimisation import gold_scores
from eval.records import Record

QUANTILES = (0.5, 0.75, 0.9, 0.95, 0.99)
_EQUAL = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """What the reward is worth as a verifier with one threshold.

    Attributes:
        quantile: share of all candidates below the threshold.
        threshold: in the reward's units.
        false_positive_rate: share of the wrong candidates that pass; None if none is wrong.
        true_positive_rate: share of the right ones that pass; None if none is right.
        wrong_share: of what passes; None if nothing does.
        answered: share of items that are answered with the whole pool; the others abstain.
        accuracy: share of items that are answered and right then: no more draws can help.
        sample_cap: the number of draws of greatest utility, the smallest among equals: right
            answers count 1, wrong ones -`penalty`, none 0. 0: it is best to answer nothing.
        utility: with so many draws, mean over items.
        full_utility: with the whole pool.
        penalty: as above.
    """

    quantile: float
    threshold: float
    false_positive_rate: float | None
    true_positive_rate: float | None
    wrong_share: float | None
    answered: float
    accuracy: float
    sample_cap: int
    utility: float
    full_utility: float
    penalty: float


def evaluate_verifiers(
    records: Sequence[Record],
    *,
    penalty: float = 1.0,
    quantiles: Sequence[float] = QUANTILES,
) -> list[Verifier]:
    """Evaluates the reward as a verifier, with thresholds at quantiles of the rewards.

    Args:
        records: whose candidates are independent draws of the policy. A candidate with the full
            score of 1 is right, any other is wrong.
        penalty: what a wrong answer costs, in right ones.
        quantiles: of the rewards of all candidates.

    Returns:
        None for records without candidates; one for each quantile.
    """
    with_pool = [record for record in records if record["candidates"]]
    if not with_pool:
        return []
    rewards = np.array([c["reward"] for record in with_pool for c in record["candidates"]])
    thresholds = np.quantile(rewards, quantiles, method="higher")
    return [
        _verifier(with_pool, float(threshold), quantile, penalty)
        for quantile, threshold in zip(quantiles, thresholds, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Pool:
    """What passes of one pool."""

    size: int
    num_right: int
    num_passed: int
    num_right_passed: int

    def values(self, most: int, right: float, wrong: float) -> npt.NDArray[np.float64]:
        """The expected worth of the first of n that passes, for n = 1 .. most, ``(most,)``."""
        if not self.num_passed:
            return np.zeros(most)
        worth = self.num_right_passed * right + (self.num_passed - self.num_right_passed) * wrong
        return pools.any_accepted(self.num_passed, self.size)[:most] * worth / self.num_passed


def _verifier(
    records: Sequence[Record], threshold: float, quantile: float, penalty: float
) -> Verifier:
    found = [(record["item"], _pool(record, threshold)) for record in records]
    passed = sum(pool.num_passed for _, pool in found)
    right = sum(pool.num_right for _, pool in found)
    right_passed = sum(pool.num_right_passed for _, pool in found)
    wrong = sum(pool.size for _, pool in found) - right
    largest = min(pool.size for _, pool in found)

    def over_items(right: float, wrong: float) -> npt.NDArray[np.float64]:
        by_item: defaultdict[str, list[npt.NDArray[np.float64]]] = defaultdict(list)
        for item, pool in found:
            by_item[item].append(pool.values(largest, right, wrong))
        means = np.array([np.mean(values, axis=0) for values in by_item.values()])
        mean: npt.NDArray[np.float64] = means.mean(axis=0)
        return mean

    utilities = np.concatenate([[0.0], over_items(1.0, -penalty)])
    cap = int(np.argmax(utilities >= utilities.max() - _EQUAL))
    return Verifier(
        quantile=quantile,
        threshold=threshold,
        false_positive_rate=(passed - right_passed) / wrong if wrong else None,
        true_positive_rate=right_passed / right if right else None,
        wrong_share=(passed - right_passed) / passed if passed else None,
        answered=float(over_items(1.0, 1.0)[-1]),
        accuracy=float(over_items(1.0, 0.0)[-1]),
        sample_cap=cap,
        utility=float(utilities[cap]),
        full_utility=float(utilities[-1]),
        penalty=penalty,
    )


def _pool(record: Record, threshold: float) -> _Pool:
    passed = [candidate["reward"] >= threshold for candidate in record["candidates"]]
    right = [score >= 1 for score in gold_scores(record)]
    both = [one and other for one, other in zip(passed, right, strict=True)]
    return _Pool(len(passed), sum(right), sum(passed), sum(both))

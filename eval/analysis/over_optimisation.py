"""Best-of-n from one pool, for every n: where more of the proxy reward is less of the gold score.

Gao et al. 2023, arXiv:2210.10760.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from eval.analysis import pools
from eval.analysis.intervals import (
    LEVEL,
    RESAMPLES,
    SCORE,
    Interval,
    mean_intervals,
    resampled_means,
)
from eval.analysis.items import ItemKey, item_key
from eval.records import Record
from rsalign.selectors.estimators import best_of_kl


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOfPoint:
    """Best-of-n at one n; means over items.

    Attributes:
        n: candidates.
        reward: expected highest reward.
        score: expected gold score of the candidate with the highest reward.
        oracle: expected highest gold score: pass@n, unbiased.
        kl: to the policy by the formula, nats (`best_of_kl`).
        tokens: that n draws cost on average.
    """

    n: int
    reward: Interval
    score: Interval
    oracle: Interval
    kl: float
    tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Best-of-n up to the size of the pool.

    Attributes:
        points: n = 1, 2, 4 and so on.
        peak: the n with the highest mean gold score, the smallest among equals.
        peak_range: what `peak` is over resamples of the items: an interval.
        turned: share of these resamples whose peak is before the largest n. Near 1: best-of-n has
            turned down; near 0: it has not yet.
    """

    points: Sequence[BestOfPoint]
    peak: int
    peak_range: tuple[int, int]
    turned: float


def best_of_curve(records: Sequence[Record], *, resamples: int = RESAMPLES) -> Curve | None:
    """Computes what best-of-n would have picked from the pools of these records, for each n.

    Pools of one item (its seeds) are averaged. A candidate that nobody could grade counts 0.

    Args:
        records: whose candidates are independent draws of the policy.
        resamples: of the items.

    Returns:
        None if no record has candidates.
    """
    with_pool = [record for record in records if record["candidates"]]
    if not with_pool:
        return None
    sizes = pools.sizes(min(len(record["candidates"]) for record in with_pool))
    rewards, scores, oracles = (
        _of_items(with_pool, sizes, kind) for kind in ("reward", "score", "oracle")
    )
    # one set of resamples for all, so that curves can be compared
    intervals = [
        mean_intervals(rewards, resamples=resamples),
        mean_intervals(scores, bounds=SCORE, resamples=resamples),
        mean_intervals(oracles, bounds=SCORE, resamples=resamples),
    ]
    tokens = fmean(c["num_tokens"] for record in with_pool for c in record["candidates"])
    points = [
        BestOfPoint(
            n=n,
            reward=reward,
            score=score,
            oracle=oracle,
            kl=best_of_kl(n),
            tokens=n * tokens,
        )
        for n, reward, score, oracle in zip(sizes, *intervals, strict=True)
    ]
    peaks = np.argmax(resampled_means(scores, resamples=resamples), axis=0)
    tails = np.quantile(peaks, ((1 - LEVEL) / 2, (1 + LEVEL) / 2), method="inverted_cdf")
    return Curve(
        points=points,
        peak=max(points, key=lambda point: point.score.mean).n,
        peak_range=(sizes[int(tails[0])], sizes[int(tails[1])]),
        turned=float(np.mean(peaks < len(sizes) - 1)),
    )


def gold_scores(record: Record) -> list[float]:
    """Of a record's candidates; 0 where nobody could tell."""
    return [candidate["score"] or 0.0 for candidate in record["candidates"]]


def _of_items(
    records: Sequence[Record], sizes: Sequence[int], kind: str
) -> list[dict[ItemKey, float]]:
    """The expected value of each item for each n, ``(sizes,)`` mappings."""
    found: defaultdict[ItemKey, list[list[float]]] = defaultdict(list)
    for record in records:
        rewards = [candidate["reward"] for candidate in record["candidates"]]
        scores = gold_scores(record)
        by, values = {
            "reward": (rewards, rewards),
            "score": (rewards, scores),
            "oracle": (scores, scores),
        }[kind]
        found[item_key(record)].append([pools.best_of(by, values, n) for n in sizes])
    return [
        {item: fmean(row[i] for row in rows) for item, rows in found.items()}
        for i in range(len(sizes))
    ]

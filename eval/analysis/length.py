"""Whether the reward, or the truth, likes long answers: rank correlations within items."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from scipy.stats import spearmanr

from eval.analysis import items
from eval.analysis.intervals import DIFFERENCE, RESAMPLES, Interval, mean_interval
from eval.analysis.over_optimisation import gold_scores
from eval.records import Record

_Of: TypeAlias = Callable[[Record], Sequence[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthCorrelation:
    """Spearman's rank correlations with the number of tokens, the mean over items.

    Within an item, since hard items have other lengths and other rewards than easy ones. Items
    whose candidates are all equal in either respect have no correlation and are left out.

    Attributes:
        reward: of reward and length; None if no item has one.
        score: of gold score and length.
        reward_score: of reward and gold score: how well the reward ranks.
    """

    reward: Interval | None
    score: Interval | None
    reward_score: Interval | None


def length_correlation(
    records: Sequence[Record], *, resamples: int = RESAMPLES
) -> LengthCorrelation:
    """Over the candidates of each record.

    Args:
        records: of one configuration.
        resamples: of the intervals.
    """

    def correlation(one: _Of, other: _Of) -> Interval | None:
        values = items.by_item(records, lambda record: _correlation(one(record), other(record)))
        return mean_interval(values, bounds=DIFFERENCE, resamples=resamples) if values else None

    return LengthCorrelation(
        reward=correlation(_rewards, _lengths),
        score=correlation(gold_scores, _lengths),
        reward_score=correlation(_rewards, gold_scores),
    )


def _rewards(record: Record) -> list[float]:
    return [candidate["reward"] for candidate in record["candidates"]]


def _lengths(record: Record) -> list[float]:
    return [candidate["num_tokens"] for candidate in record["candidates"]]


def _correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    if len(set(one)) < 2 or len(set(other)) < 2:
        return None
    return float(spearmanr(one, other).statistic)

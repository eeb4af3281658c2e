"""What was there to be picked, and what was picked."""

from dataclasses import dataclass
from statistics import fmean

from eval.analysis import items
from eval.analysis.configuration import Configuration
from eval.analysis.intervals import DIFFERENCE, RESAMPLES, Interval, mean_interval
from eval.analysis.over_optimisation import gold_scores
from eval.records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleGap:
    """The best whole response that was considered, against the answer.

    Attributes:
        num_candidates: whole responses considered, per answer; of a chain its proposals and
            its answer, and not the other draws that it starts from, which are on no record.
        candidate: mean gold score of a candidate.
        picked: mean gold score of the answer.
        oracle: mean of the best gold score among the candidates: pass@N where they are independent
            draws of the policy.
        gap: of the last two, oracle minus picked, paired by item.
    """

    num_candidates: float
    candidate: float
    picked: float
    oracle: float
    gap: Interval


def oracle_gap(configuration: Configuration, *, resamples: int = RESAMPLES) -> OracleGap | None:
    """Over the records that have candidates; None if there are none, or nothing was graded.

    Args:
        configuration: any; what draws only parts of responses has few candidates or none.
        resamples: of the interval.
    """
    records = [record for record in configuration.records if record["candidates"]]
    if not records or not items.is_graded(records):
        return None
    picked, oracle = items.scores(records), items.by_item(records, _best)
    return OracleGap(
        num_candidates=fmean(len(record["candidates"]) for record in records),
        candidate=fmean(items.by_item(records, lambda one: fmean(gold_scores(one))).values()),
        picked=fmean(picked.values()),
        oracle=fmean(oracle.values()),
        gap=mean_interval(
            {item: oracle[item] - picked[item] for item in picked},
            bounds=DIFFERENCE,
            resamples=resamples,
        ),
    )


def _best(record: Record) -> float:
    return max(gold_scores(record))

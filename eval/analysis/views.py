"""One row for each configuration, and what it is worth at an equal cost."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

from eval.analysis import items
from eval.analysis.configuration import Configuration
from eval.analysis.intervals import RESAMPLES, SCORE, Interval, mean_interval
from eval.analysis.items import ByItem
from eval.analysis.paired import Comparison, compare
from eval.records import Record

_AS_GOOD_AS_EQUAL = 0.05


class Cost(StrEnum):
    """A cost that a comparison may hold equal: a field of `rsalign.Usage`, per answer."""

    DRAWN_TOKENS = "policy_tokens_drawn"
    REWARD_CALLS = "reward_calls"
    SECONDS = "seconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """What a configuration achieved, and what it cost. Means are per answer.

    Attributes:
        configuration: whose row it is.
        num_items: items with a record.
        num_answers: records, all seeds together.
        num_ungradable: answers that nobody could grade; they count as score 0.
        num_tied: answers that the grader marked as a tie.
        num_failed: records without an answer; they count as score 0, and not in any cost.
        score: mean gold score; None if nothing was graded.
        reward: mean reward of the answers; None if there is none.
        length: mean number of tokens of the answers; None if there is none.
        log_prob: ln of the policy's probability of the answers, nats a token (how likely the policy
            itself finds them: a measure of fluency); None if it is not known.
        usage: mean of every field of `rsalign.Usage`; without seconds if all was replayed, empty
            if everything failed.
        forced: share of answers for which a guarantee was given up.
        expired: share of answers that a hard limit ended.
        cut: share of answers that end at their greatest length.
        scores_by_group: mean gold score of each group of items; empty if nothing was graded.
    """

    configuration: Configuration
    num_items: int
    num_answers: int
    num_ungradable: int
    num_tied: int
    num_failed: int
    score: Interval | None
    reward: Interval | None
    length: Interval | None
    log_prob: Interval | None
    usage: dict[str, float]
    forced: float
    expired: float
    cut: float
    abstained: float
    scores_by_group: dict[str, float]


def make_rows(
    configurations: Sequence[Configuration], *, resamples: int = RESAMPLES
) -> list[ResultRow]:
    """Makes a row for each configuration, the best score first; without scores, the best reward.

    Args:
        configurations: of one task; each with a record at least.
        resamples: of the intervals.
    """
    graded = any(items.is_graded(one.records) for one in configurations)
    found = [_row(one, graded=graded, resamples=resamples) for one in configurations]

    def rank(interval: Interval | None) -> float:
        return -interval.mean if interval else math.inf

    return sorted(found, key=lambda row: (rank(row.score), rank(row.reward)))


def compare_at_equal_cost(
    configuration: Configuration,
    reference: Sequence[Configuration],
    cost: Cost,
    *,
    resamples: int = RESAMPLES,
) -> Comparison | None:
    """Compares scores, item by item, with what the reference reaches at the same mean cost.

    Between two sizes of the reference its score, item by item, is interpolated linearly in the
    logarithm of the cost, which is taken as known; an item is a tie if it has that very score. A
    cost within 5 % of its smallest or its largest size counts as that.

    Args:
        configuration: what is compared.
        reference: sizes of one method. Answers (items and seeds) count that all sides have.
        cost: what is held equal.
        resamples: of the interval and the test, which are paired by item.

    Returns:
        None where the reference was not run at such a cost, nothing was graded, or no item is
        shared.
    """
    # seeds that one side lacks would compare other draws, and not other methods
    kept = items.shared_answers(configuration.records, *(one.records for one in reference))
    records = items.keep_answers(configuration.records, kept)
    spent = items.mean(items.usage(records, cost))
    if spent is None or not items.is_graded(records):
        return None
    sizes = [items.keep_answers(one.records, kept) for one in reference]
    expected = _interpolated(sizes, cost, spent)
    if expected is None:
        return None
    return compare(items.scores(records), expected, resamples=resamples)


def _interpolated(reference: Sequence[Sequence[Record]], cost: Cost, spent: float) -> ByItem | None:
    points = sorted(
        (
            (at, items.scores(records))
            for records in reference
            if (at := items.mean(items.usage(records, cost))) is not None
        ),
        key=lambda point: point[0],
    )
    for at, values in points[:1] + points[-1:]:
        if math.isclose(at, spent, rel_tol=_AS_GOOD_AS_EQUAL):
            return values
    for (low, below), (high, above) in itertools.pairwise(points):
        if 0 < low <= spent <= high and low < high:
            share = math.log(spent / low) / math.log(high / low)
            return {
                item: (1 - share) * below[item] + share * above[item]
                for item in items.shared(below, above)
            }
    return None


def _row(configuration: Configuration, *, graded: bool, resamples: int) -> ResultRow:
    records = configuration.records
    answered = [record for record in records if record["error"] is None]
    rewards = items.rewards(records)
    scores = items.scores(records)
    lengths, log_probs = items.lengths(records), items.log_probs(records)
    return ResultRow(
        configuration=configuration,
        num_items=len(scores),
        num_answers=len(records),
        num_ungradable=sum(map(items.is_ungradable, records)),
        num_tied=sum(map(items.is_tied, records)),
        num_failed=len(records) - len(answered),
        score=mean_interval(scores, bounds=SCORE, resamples=resamples) if graded else None,
        reward=mean_interval(rewards, resamples=resamples) if rewards else None,
        length=mean_interval(lengths, resamples=resamples) if lengths else None,
        log_prob=mean_interval(log_probs, resamples=resamples) if log_probs else None,
        usage={
            name: mean
            for name in (answered[0]["usage"] if answered else ())
            if (mean := items.mean(items.usage(answered, name))) is not None
        },
        forced=fmean(record["forced"] for record in records),
        expired=fmean(record["expired"] for record in records),
        cut=fmean(items.is_cut(record) for record in records),
        abstained=fmean(items.is_abstained(record) for record in records),
        scores_by_group={
            group: fmean(items.scores(those).values())
            for group, those in items.groups(records).items()
            if graded
        },
    )

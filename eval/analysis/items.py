"""Records as one value for each item.

The seeds of an item are averaged: they tell how it was answered, and nothing about other items.
Items keep the cluster that they belong to, since those of one cluster are not independent.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple, TypeAlias

from eval.records import Record


class ItemKey(NamedTuple):
    """Names an item.

    Attributes:
        cluster: what it shares with items that are not independent of it; its own id if none is.
        item: its id.
    """

    cluster: str
    item: str


ByItem: TypeAlias = Mapping[ItemKey, float]
"""A value for each item."""


def score(record: Record) -> float:
    """Gold score of the answer; 0 if it could not be graded or there is none."""
    grade = record["grade"]
    return 0.0 if grade is None or grade["score"] is None else float(grade["score"])


def is_ungradable(record: Record) -> bool:
    """Tells whether there is an answer and it could not be graded."""
    return record["grade"] is not None and record["grade"]["score"] is None


def is_tied(record: Record) -> bool:
    """Whether the grader marked the answer as a tie; its score says what that is worth."""
    return record["grade"] is not None and bool(record["grade"]["details"].get("tie"))


def is_cut(record: Record) -> bool:
    """Tells whether the answer ends at its greatest length, and not where the model ended it."""
    return bool(record["answers"]) and record["answers"][0]["finish_reason"] == "length"


def is_abstained(record: Record) -> bool:
    """Tells whether the strategy gave no answer, which counts as score 0."""
    return bool(record["answers"]) and record["answers"][0]["finish_reason"] == "abstained"


def is_graded(records: Iterable[Record]) -> bool:
    """Tells whether any answer has a score."""
    return any(record["grade"] and record["grade"]["score"] is not None for record in records)


def scores(records: Iterable[Record]) -> dict[ItemKey, float]:
    """Gold scores (`score`)."""
    return by_item(records, score)


def rewards(records: Iterable[Record]) -> dict[ItemKey, float]:
    """Rewards of the answers, in the reward's units; items without any are left out."""
    return by_item(
        records, lambda record: record["answers"][0]["reward"] if record["answers"] else None
    )


def lengths(records: Iterable[Record]) -> dict[ItemKey, float]:
    """Lengths of the answers, tokens; items without an answer are left out."""
    return by_item(
        records, lambda record: record["answers"][0]["num_tokens"] if record["answers"] else None
    )


def log_probs(records: Iterable[Record]) -> dict[ItemKey, float]:
    """Ln of the policy's probability of the answers, nats a token (a mean over their tokens).

    Left out are items without an answer, with an empty one, or with one whose probability is not
    known.
    """

    def of(record: Record) -> float | None:
        answer = record["answers"][0] if record["answers"] else {"num_tokens": 0}
        known = answer["num_tokens"] and answer.get("log_prob") is not None
        return answer["log_prob"] / answer["num_tokens"] if known else None

    return by_item(records, of)


def usage(records: Iterable[Record], name: str) -> dict[ItemKey, float]:
    """A field of `rsalign.Usage`, per answer; what failed is left out.

    So are the seconds of runs that were not whole (`eval.analysis.timing`).
    """
    return by_item(
        records,
        lambda record: (
            record["usage"][name]
            if record["error"] is None and (name != "seconds" or record["timed"])
            else None
        ),
    )


def diagnostic(records: Iterable[Record], name: str) -> dict[ItemKey, float]:
    """A diagnostic that is a number; items without it are left out."""
    return by_item(records, lambda record: record["diagnostics"].get(name))


def item_key(record: Record) -> ItemKey:
    """The item that a record answers."""
    return ItemKey(str(record.get("cluster") or record["item"]), str(record["item"]))


def by_item(
    records: Iterable[Record], value: Callable[[Record], float | None]
) -> dict[ItemKey, float]:
    """The mean over seeds of a value of each record, in order of cluster and item id.

    Args:
        records: of one configuration.
        value: of a record; None leaves it out.
    """
    found: defaultdict[ItemKey, list[float]] = defaultdict(list)
    for record in records:
        if (one := value(record)) is not None:
            found[item_key(record)].append(float(one))
    return {item: fmean(found[item]) for item in sorted(found)}


def mean(values: ByItem) -> float | None:
    """The mean over items; None if there are none."""
    return fmean(values.values()) if values else None


def shared_answers(*parts: Iterable[Record]) -> set[tuple[str, int]]:
    """Names the answers that all of these have, by item and seed."""
    return set.intersection(*({(one["item"], one["seed"]) for one in part} for part in parts))


def keep_answers(records: Iterable[Record], kept: Collection[tuple[str, int]]) -> list[Record]:
    """Keeps the records of these items and seeds."""
    return [record for record in records if (record["item"], record["seed"]) in kept]


def shared(*values: ByItem) -> list[ItemKey]:
    """Lists the items that all of these have, in order."""
    return sorted(set.intersection(*(set(one) for one in values)))


def groups(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The records of each group of items, in order of its name."""
    found: defaultdict[str, list[Record]] = defaultdict(list)
    for record in records:
        found[record["group"]].append(record)
    return {group: found[group] for group in sorted(found)}

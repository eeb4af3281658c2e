"""Which records have the seconds of a whole run.

An answer takes its seconds while others are answered beside it. In a run that went on after a stop
the engine was emptier, and a draw that a journal replays takes no time: neither is comparable.
"""

from collections import Counter
from collections.abc import Iterable

from eval.records import Record


def mark_timed(records: Iterable[Record]) -> list[Record]:
    """Adds ``timed`` to each record: whether its seconds are those of a whole run.

    They are if one run answered all items of the seed, none is missing from the records, and no
    draw of any of them was replayed.

    Args:
        records: of one run folder.
    """
    records = list(records)
    present = Counter(record["batch"]["id"] for record in records if record["batch"])
    replayed = {
        record["batch"]["id"]
        for record in records
        if record["batch"] and record["error"] is None and record["usage"]["replayed"] != 0
    }

    def is_timed(record: Record) -> bool:
        batch = record["batch"]
        return bool(
            record["error"] is None
            and batch
            and batch["is_whole"]
            and present[batch["id"]] == batch["num_items"]
            and batch["id"] not in replayed
        )

    return [{**record, "timed": is_timed(record)} for record in records]

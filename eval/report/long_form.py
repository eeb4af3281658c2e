"""All answers as one table, a row each, for other tools: ``results.csv``."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.analysis.configuration import Configuration
from eval.records import Record
from eval.report.studies import Study

COLUMNS = (
    *("study", "method", "size", "item", "group", "cluster", "seed", "score", "reward"),
    *("num_tokens", "log_prob", "finish_reason", "policy_tokens_drawn", "reward_calls", "seconds"),
    *("forced", "expired", "error"),
)
"""``seconds`` is empty where a journal had some of the draws; ``log_prob`` is in nats."""


def write_results(studies: Sequence[Study], file: Path) -> None:
    """Writes a row for each record of each configuration; overwrites the file."""
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, COLUMNS)
        writer.writeheader()
        for study in studies:
            for configuration in study.configurations:
                for record in configuration.records:
                    writer.writerow(_row(study, configuration, record))


def _row(study: Study, configuration: Configuration, record: Record) -> dict[str, Any]:
    answer = record["answers"][0] if record["answers"] else {}
    usage, grade = record["usage"], record["grade"] or {}
    names = ("policy_tokens_drawn", "reward_calls", *(("seconds",) if record["timed"] else ()))
    return {
        "study": study.title,
        "method": configuration.method,
        "size": str(configuration.size),
        **{name: record.get(name) for name in ("item", "group", "cluster", "seed")},
        "score": grade.get("score"),
        **{
            name: answer.get(name) for name in ("reward", "num_tokens", "log_prob", "finish_reason")
        },
        **{name: usage.get(name) for name in names},
        "forced": record["forced"],
        "expired": record["expired"],
        "error": record["error"] and record["error"]["kind"],
    }

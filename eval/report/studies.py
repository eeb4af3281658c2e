"""What may be compared: configurations of one task and one policy."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.analysis.configuration import Configuration
from eval.analysis.items import is_timed
from eval.analysis.naming import name_methods
from eval.analysis.views import Cost
from eval.records import Record
from eval.report.folders import RunFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """Configurations of one task and one policy.

    Attributes:
        task: its name.
        settings: of task and policy, for people.
        configurations: one for each method and size.
        num_items: items with a record in any of them.
        seeds: of all of them.
        costs: what may be held equal. Seconds are left out where all draws were replayed.
        warnings: what a reader must know before comparing.
    """

    task: str
    settings: str
    configurations: Sequence[Configuration]
    num_items: int
    seeds: Sequence[int]
    costs: Sequence[Cost]
    warnings: Sequence[str]


def group_studies(runs: Sequence[RunFolder]) -> list[Study]:
    """Groups runs of the same task, policy and grader into studies, in order of task name."""
    groups: defaultdict[str, list[RunFolder]] = defaultdict(list)
    for run in runs:
        config = run.config
        groups[_text([config["task"], config["policy"], _grader(config)])].append(run)
    found = [_study(group) for group in groups.values()]
    return sorted(found, key=lambda study: (study.task, study.settings))


def _study(runs: Sequence[RunFolder]) -> Study:
    """Runs of the same strategy are one configuration, whatever their seeds.

    A strategy that its budget does not change is one at its smallest size.
    """
    alike: defaultdict[str, list[RunFolder]] = defaultdict(list)
    for run in runs:
        parts = [run.config["strategy"], run.config["reward"], run.config["budget"]["limit"]]
        alike[_text(parts)].append(run)
    merged = [sorted(same, key=_size) for same in alike.values()]
    firsts = [same[0] for same in merged]
    strategies = [run.records[0]["strategy"] for run in firsts]
    sizes = [_size(run) for run in firsts]
    names = name_methods(
        [
            {**strategy, "reward": run.config["reward"], "limit": run.config["budget"]["limit"]}
            for strategy, run in zip(strategies, firsts, strict=True)
        ],
        sizes,
    )
    configurations = [
        Configuration(method=name, answers=size, strategy=strategy, records=_records(same))
        for name, size, strategy, same in zip(names, sizes, strategies, merged, strict=True)
    ]
    by_item = [{record["item"] for record in one.records} for one in configurations]
    every = set.union(*by_item)
    config = runs[0].config
    return Study(
        task=runs[0].records[0]["task"],
        settings=", ".join(
            f"{name}={value}"
            for part in (config["task"], config["policy"], _grader(config))
            for name, value in _settings(part)
        ),
        configurations=configurations,
        num_items=len(every),
        seeds=sorted({record["seed"] for one in configurations for record in one.records}),
        costs=[
            cost for cost in Cost if cost is not Cost.SECONDS or any(map(_is_timed, configurations))
        ],
        warnings=_warnings(configurations, by_item, every),
    )


def _size(run: RunFolder) -> int:
    return int(run.config["budget"]["answers"])


def _records(runs: Sequence[RunFolder]) -> list[Record]:
    """One for each item and seed; of several, one that was answered and, if there is, timed."""
    every = [record for run in runs for record in run.records]
    every.sort(key=lambda record: (record["error"] is None, is_timed(record)))
    found = {(record["item"], record["seed"]): record for record in every}
    return [found[key] for key in sorted(found)]


def _is_timed(configuration: Configuration) -> bool:
    return any(map(is_timed, configuration.records))


def _warnings(
    configurations: Sequence[Configuration],
    by_item: Sequence[set[str]],
    every: set[str],
) -> list[str]:
    warnings = []
    short = [
        one.name for one, has in zip(configurations, by_item, strict=True) if len(has) < len(every)
    ]
    if short:
        warnings.append(
            f"Not all items are done in {', '.join(short)}; comparisons use the items that both "
            "sides have."
        )
    failed = sum(bool(record["error"]) for one in configurations for record in one.records)
    if failed:
        warnings.append(
            f"{failed} answers failed. They count as score 0; run the same command again to try "
            "them anew."
        )
    replayed = sum(not _is_timed(one) for one in configurations)
    if replayed:
        warnings.append(
            f"No seconds are known of {replayed} of the {len(configurations)} configurations: what "
            "was drawn for another job was replayed, which counts as drawn tokens and as reward "
            "calls, but takes no time. For seconds, run these again with journal=false and another "
            "output, and report on both folders."
        )
    if len({_text(record["host"]) for one in configurations for record in one.records}) > 1:
        warnings.append("Runs differ in versions or machine: see the end of the page.")
    return warnings


def _settings(node: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The settings of a node that are numbers or text."""
    return [
        (name, value)
        for name, value in node.items()
        if isinstance(value, str | int | float) and name != "_target_"
    ]


def _grader(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What grades in place of the task; empty if nothing does."""
    grader = config.get("grader", {})
    if "reward" not in grader:
        return {}
    name = str(grader["_target_"]).rpartition(".")[2]
    return {"grader": name, "by": _text(grader["reward"]), **grader}


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)

"""What may be compared: configurations of one task, policy, reward and grader."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.analysis.configuration import Configuration, Size
from eval.analysis.items import item_key
from eval.analysis.naming import name_methods
from eval.analysis.views import Cost
from eval.records import Record
from eval.report.folders import RunFolder

FEW_ITEMS = 30
"""Fewer independent items than this are warned of: an interval for shares near one half is then
wider than a third of the scale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """Configurations of one task, policy, reward and grader.

    Attributes:
        task: its name.
        title: the task, and the settings that tell the study from others of it.
        settings: of task, policy, reward and grader, for people.
        configurations: one for each method and size.
        num_items: items with a record in any of them.
        seeds: of all of them.
        costs: what may be held equal. Seconds are left out where all draws were replayed.
        warnings: what a reader must know before comparing.
    """

    task: str
    title: str
    settings: str
    configurations: Sequence[Configuration]
    num_items: int
    seeds: Sequence[int]
    costs: Sequence[Cost]
    warnings: Sequence[str]


def group_studies(runs: Sequence[RunFolder]) -> list[Study]:
    """Groups runs of the same task, policy, reward and grader into studies, in order of task name.

    Runs without a reward are a part of the studies of all rewards. How many items of the task were
    asked for tells no studies apart: comparisons use the items that both sides have.
    """
    groups: defaultdict[str, list[RunFolder]] = defaultdict(list)
    rewarded: defaultdict[str, dict[str, list[RunFolder]]] = defaultdict(dict)
    for run in runs:
        task = {name: value for name, value in run.config["task"].items() if name != "limit"}
        alike = _text([task, run.config["policy"], _grader(run.config)])
        groups[alike].append(run)
        if (reward := run.config["reward"]) is not None:
            rewarded[alike].setdefault(_text(reward), []).append(run)
    found = []
    for alike, same in groups.items():
        unrewarded = [run for run in same if run.config["reward"] is None]
        found += [[*own, *unrewarded] for own in rewarded[alike].values()] or [same]
    settings = [_all_settings(group[0].config) for group in found]
    studies = [
        _study(group, settings[i], _title(i, settings, [group[0] for group in found]))
        for i, group in enumerate(found)
    ]
    return sorted(studies, key=lambda study: (study.task, study.settings))


def _title(number: int, settings: Sequence[Mapping[str, Any]], runs: Sequence[RunFolder]) -> str:
    """The task's name, and what tells this study from the others of the same task."""
    task = runs[number].records[0]["task"]
    others = [
        one for one, run in zip(settings, runs, strict=True) if run.records[0]["task"] == task
    ]
    told = [
        f"{name}={settings[number].get(name, 'none')}"
        for name in dict.fromkeys(name for one in others for name in one)
        if len({_text(one.get(name)) for one in others}) > 1
    ]
    return ", ".join([str(task), *told])


def _study(runs: Sequence[RunFolder], settings: Mapping[str, Any], title: str) -> Study:
    """Runs of the same strategy are one configuration, whatever their seeds.

    A strategy that its budget does not change is one at its smallest size.
    """
    alike: defaultdict[str, list[RunFolder]] = defaultdict(list)
    for run in runs:
        alike[_text([run.config["strategy"], Size.of(run.config["budget"]).limits])].append(run)
    merged = [sorted(same, key=_size) for same in alike.values()]
    firsts = [same[0] for same in merged]
    strategies = [run.records[0]["strategy"] for run in firsts]
    sizes = [_size(run) for run in firsts]
    names = name_methods(
        [
            strategy | ({"limit": {"class": _limited(size)}} if size.limits else {})
            for strategy, size in zip(strategies, sizes, strict=True)
        ],
        sizes,
    )
    configurations = [
        Configuration(method=name, size=size, strategy=strategy, records=_records(same))
        for name, size, strategy, same in zip(names, sizes, strategies, merged, strict=True)
    ]
    by_item = [{record["item"] for record in one.records} for one in configurations]
    every = set.union(*by_item)
    return Study(
        task=runs[0].records[0]["task"],
        title=title,
        settings=", ".join(f"{name}={value}" for name, value in settings.items()),
        configurations=configurations,
        num_items=len(every),
        seeds=sorted({record["seed"] for one in configurations for record in one.records}),
        costs=[
            cost for cost in Cost if cost is not Cost.SECONDS or any(map(_is_timed, configurations))
        ],
        warnings=_warnings(configurations, by_item, every),
    )


def _limited(size: Size) -> str:
    """What is added to the name of a method that hard limits end."""
    return f"(limited by {' and '.join(size.limited_by)})"


def _size(run: RunFolder) -> Size:
    return Size.of(run.config["budget"])


def _records(runs: Sequence[RunFolder]) -> list[Record]:
    """One for each item and seed; of several, one that was answered and, if there is, timed."""
    every = [record for run in runs for record in run.records]
    every.sort(key=lambda record: (record["error"] is None, record["timed"]))
    found = {(record["item"], record["seed"]): record for record in every}
    return [found[key] for key in sorted(found)]


def _is_timed(configuration: Configuration) -> bool:
    return any(record["timed"] for record in configuration.records)


def _warnings(
    configurations: Sequence[Configuration],
    by_item: Sequence[set[str]],
    every: set[str],
) -> list[str]:
    warnings = []
    clusters = {item_key(record).cluster for one in configurations for record in one.records}
    if len(clusters) < FEW_ITEMS:
        unit = "items" if len(clusters) == len(every) else "independent groups of items"
        warnings.append(
            f"Few {unit} ({len(clusters)}): the intervals are wide, and a method that is better "
            f"may not look better. Conclusions need {FEW_ITEMS} or more, better 100: raise "
            "task.limit."
        )
    short = [
        one.name for one, has in zip(configurations, by_item, strict=True) if len(has) < len(every)
    ]
    if short:
        warnings.append(
            f"Not all items are done in {', '.join(short)}; comparisons use the items that both "
            "sides have."
        )
    seeds = {one.name: {record["seed"] for record in one.records} for one in configurations}
    all_seeds = set.union(*seeds.values())
    fewer = [
        f"{name} ({', '.join(map(str, sorted(own)))})"
        for name, own in seeds.items()
        if own != all_seeds
    ]
    if fewer:
        warnings.append(
            f"Not all seeds are done in {'; '.join(fewer)}. Comparisons use the seeds that both "
            "sides have; means and curves use all."
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
            f"No seconds are known of {replayed} of the {len(configurations)} configurations: they "
            "were stopped and continued, or draws of another job were replayed, which count as "
            "drawn tokens and as reward calls, but take no time. For seconds, run these again with "
            "journal=false and another output, and report on both folders."
        )
    mixed = [
        one.name
        for one in configurations
        if len({_text(_parts_of(record)) for record in one.records}) > 1
    ]
    if mixed:
        warnings.append(
            f"{', '.join(mixed)}: not all records are of the same models and code, though the "
            "settings are the same. Run the same command again: it answers the older ones anew."
        )
    if len({_text(record["host"]) for one in configurations for record in one.records}) > 1:
        warnings.append("Runs differ in versions or machine: see the end of the page.")
    return warnings


def _all_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of task, policy, reward and grader that are numbers or text."""
    parts = {
        "task": config["task"],
        "policy": config["policy"],
        "reward": config["reward"] or {},
        "grader": _grader(config),
    }
    found = {name: value for part, node in parts.items() for name, value in _leaves(node, part)}
    return {name: value for name, value in found.items() if name != "task.limit"}


def _leaves(node: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Settings by their path; the class of a part stands under the part's own path."""
    for name, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}.{name}")
        elif isinstance(value, str | int | float):
            yield (path if name == "_target_" else f"{path}.{name}"), value


def _parts_of(record: Record) -> dict[str, str]:
    """The fingerprints of a record but the item's."""
    return {name: one for name, one in record["fingerprints"].items() if name != "item"}


def _grader(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What grades in place of the task; empty if nothing does."""
    grader: Mapping[str, Any] = config.get("grader", {})
    return grader if "reward" in grader else {}


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)

"""One page for each item, and a list of all that can be searched: asked, drawn, judged, picked."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from jinja2 import Environment
from markupsafe import Markup

from eval.analysis.configuration import Configuration
from eval.analysis.items import ItemKey, item_key
from eval.records import Record
from eval.report.examples import show_record
from eval.report.scripts import digest_list, read_script
from eval.report.studies import Study
from eval.report.table import Colours
from rsalign.report.texts import clip

FOLDER = "items"
"""Beside the report's page."""

_MOST_LETTERS = 4000
_MOST_OF_LINE = 160
_MOST_OF_SEARCH = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRow:
    """A row of the list.

    Attributes:
        study: number of the study.
        file: the item's page.
        item: its id.
        group: as the task has it.
        prompt: the beginning of what was asked.
        scores: mean over seeds of the gold score, by configuration; None: nobody could tell.
        search: text that is searched, in lower case.
    """

    study: int
    file: str
    item: str
    group: str
    prompt: str
    scores: dict[str, float | None]
    search: str

    @property
    def scores_json(self) -> str:
        """For the script of the page."""
        return json.dumps(self.scores)

    @property
    def summary(self) -> tuple[float | None, ...]:
        """Mean, lowest and highest of the scores."""
        known = [score for score in self.scores.values() if score is not None]
        return (fmean(known), min(known), max(known)) if known else (None, None, None)


def write_item_pages(
    studies: Sequence[Study], colours: Colours, folder: Path, environment: Environment, style: str
) -> Path:
    """Writes the list and the pages; existing ones of the same names are overwritten.

    Args:
        studies: in the report's order.
        colours: a number for each method.
        folder: where to; made if it is not there.
        environment: finds the templates.
        style: the style sheet.

    Returns:
        The list.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, study in enumerate(studies):
        by_item = _records_by_item(study)
        files = {key: f"s{number}-{i:05d}.html" for i, key in enumerate(by_item)}
        names = list(files.values())
        for i, (key, answered) in enumerate(by_item.items()):
            page = environment.get_template("item.html").render(
                item=key.item,
                study=study,
                prompt=clip(answered[0][1][0]["prompt"], _MOST_LETTERS),
                methods=[
                    (
                        configuration.name,
                        [
                            show_record(f"seed {one['seed']}", one, colours[configuration.method])
                            for one in records
                        ],
                    )
                    for configuration, records in answered
                ],
                before=names[i - 1] if i else "",
                after=names[i + 1] if i + 1 < len(names) else "",
                style=Markup(style),
            )
            (folder / files[key]).write_text(page, encoding="utf-8")
            rows.append(_row(number, files[key], key, answered))
    scripts = [read_script("tables.js"), read_script("items.js")]
    listed = environment.get_template("items.html").render(
        studies=[study.title for study in studies],
        methods=list(dict.fromkeys(one.name for study in studies for one in study.configurations)),
        rows=rows,
        scripts=[Markup(script) for script in scripts],
        digests=Markup(digest_list(scripts)),
        style=Markup(style),
    )
    (folder / "index.html").write_text(listed, encoding="utf-8")
    return folder / "index.html"


def _records_by_item(study: Study) -> dict[ItemKey, list[tuple[Configuration, list[Record]]]]:
    """For each item, in order, the records of each configuration that has some, by seed."""
    found: defaultdict[ItemKey, list[tuple[Configuration, list[Record]]]] = defaultdict(list)
    for configuration in study.configurations:
        grouped: defaultdict[ItemKey, list[Record]] = defaultdict(list)
        for record in sorted(configuration.records, key=lambda record: int(record["seed"])):
            grouped[item_key(record)].append(record)
        for key, records in grouped.items():
            found[key].append((configuration, records))
    return {key: found[key] for key in sorted(found)}


def _row(
    study: int,
    file: str,
    key: ItemKey,
    answered: Sequence[tuple[Configuration, Sequence[Record]]],
) -> ItemRow:
    first = answered[0][1][0]
    texts = " ".join(_texts([records[0] for _, records in answered]))
    search = f"{key.item} {first['prompt'][:_MOST_OF_SEARCH]} {texts}"
    return ItemRow(
        study=study,
        file=file,
        item=key.item,
        group=str(first["group"]),
        prompt=" ".join(first["prompt"].split())[:_MOST_OF_LINE],
        scores={configuration.name: _score(records) for configuration, records in answered},
        search=" ".join(search.lower().split()),
    )


def _texts(records: Sequence[Record]) -> Iterator[str]:
    """The beginnings of the answers of the first seed, each once."""
    answers = (record["answers"][0]["text"] for record in records if record["answers"])
    yield from dict.fromkeys(text[:_MOST_OF_SEARCH] for text in answers)


def _score(records: Sequence[Record]) -> float | None:
    scores = [one["grade"]["score"] for one in records if one["grade"] is not None]
    known = [score for score in scores if score is not None]
    return fmean(known) if known else None

"""The page: one HTML file with everything in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from eval.report.chart import Chart
from eval.report.examples import Example
from eval.report.figures import colour_and_dash, draw_svg, style_sheet
from eval.report.folders import RunFolder, count_hosts, write_commands
from eval.report.scripts import digest_list, read_script
from eval.report.studies import Study
from eval.report.table import Colours, Table
from rsalign.report.notes import format_number

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a study that belongs together on the page.

    Attributes:
        key: its anchor.
        title: of the part.
        charts: keys of the figures that come first.
        tables: keys of the tables.
        is_open: whether the tables are shown at once.
    """

    key: str
    title: str
    charts: Sequence[str] = ()
    tables: Sequence[str] = ()
    is_open: bool = False


SECTIONS = (
    Section(key="results", title="Results", tables=("results",), is_open=True),
    Section(
        key="cost",
        title="By cost",
        charts=(
            *("score-drawn-tokens", "reward-drawn-tokens", "score-seconds", "reward-seconds"),
            "score-reward-calls",
        ),
        tables=("equal-drawn-tokens", "equal-reward-calls", "equal-seconds", "same-size"),
        is_open=True,
    ),
    Section(
        key="over-optimisation",
        title="Over-optimisation",
        charts=(
            *("reward-kl", "score-kl", "kl-drawn-tokens", "best-of-n-reward"),
            "best-of-n-score",
        ),
        tables=("best-of-n", "verifier", "lengths", "oracle", "kl", "likelihood"),
        is_open=True,
    ),
    Section(
        key="positions",
        title="Along the answer",
        charts=("acceptance-by-position", "waste-by-position"),
        tables=("positions",),
    ),
    Section(key="more", title="In detail", tables=("groups", "costs")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What the page shows of one study.

    Attributes:
        study: what was compared.
        tables: all of them.
        charts: all of them.
        examples: some items.
    """

    study: Study
    tables: Sequence[Table]
    charts: Sequence[Chart]
    examples: Sequence[Example]


def render_page(
    contents: Sequence[Content],
    runs: Sequence[RunFolder],
    colours: Colours,
    *,
    items_page: str = "",
) -> str:
    """Renders the page.

    Args:
        contents: one for each study.
        runs: all folders that were read.
        colours: a number for each method.
        items_page: the list of all items, as a link from the page; empty: there is none.

    Raises:
        InstallError: if matplotlib is missing.
    """
    script = read_script("tables.js")
    rendered: str = (
        make_environment()
        .get_template("page.html")
        .render(
            contents=[_laid_out(content, f"s{i}") for i, content in enumerate(contents)],
            colours={method: (i, *colour_and_dash(i)) for method, i in colours.items()},
            runs=list(zip(runs, write_commands(runs), strict=True)),
            hosts=count_hosts(runs),
            num_answers=sum(len(run.records) for run in runs),
            style=Markup(make_style(colours)),
            script=Markup(script),
            digests=Markup(digest_list([script])),
            items_page=items_page,
        )
    )
    return rendered


def make_environment() -> Environment:
    """What finds and fills the templates; texts are escaped."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FileSystemLoader(_TEMPLATES),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = format_number
    environment.filters["colour"] = lambda number: colour_and_dash(number)[0]
    return environment


def _laid_out(content: Content, anchor: str) -> dict[str, object]:
    """What the template shows of one study, whose ids begin with `anchor`."""
    tables = {table.key: table for table in content.tables}
    charts = {chart.key: chart for chart in content.charts}
    sections = [
        {
            "section": section,
            "charts": [
                (charts[key], draw_svg(charts[key], f"{anchor}-{key}"))
                for key in section.charts
                if key in charts
            ],
            "tables": [tables[key] for key in section.tables if key in tables],
        }
        for section in SECTIONS
    ]
    return {
        "study": content.study,
        "sections": [one for one in sections if one["charts"] or one["tables"]],
        "examples": content.examples,
    }


def make_style(colours: Colours) -> str:
    """The style sheet: that of rsalign's pages of single answers, and what is added here."""
    shared = files("rsalign.report").joinpath("templates", "style.css").read_text(encoding="utf-8")
    own = (_TEMPLATES / "style.css").read_text(encoding="utf-8")
    hidden = "\n".join(
        f"body:has(#show-{i}:not(:checked)) .method-{i} {{ display: none; }}"
        for i in colours.values()
    )
    return "\n".join([shared, style_sheet(), own, hidden])

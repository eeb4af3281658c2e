"""Tables as data, and as Markdown; the page's template makes HTML of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from eval.analysis.configuration import Configuration
from eval.analysis.intervals import LEVEL, Interval
from eval.report.studies import Study

Colours: TypeAlias = Mapping[str, int]
"""A number for each method."""

NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Cell:
    """A value of a table.

    Attributes:
        text: as it is shown.
        kind: ``"better"`` or ``"worse"`` by the adjusted test, at the level of the intervals; else
            empty.
    """

    text: str
    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under named columns.

    Attributes:
        key: part of the file's anchors, unique within a study.
        title: what it shows.
        notes: how to read it, one sentence or two each.
        columns: their names.
        rows: cells; the first `num_names` of each name the row.
        series: a colour's number for each row, or none at all.
        num_names: columns that hold words.
    """

    key: str
    title: str
    notes: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    series: Sequence[int] = ()
    num_names: int = 1


def words(text: str) -> Cell:
    """A cell with a word."""
    return Cell(text)


def name_cells(one: Configuration) -> tuple[Cell, Cell]:
    """The cells that name a configuration: its method and its size."""
    return words(one.method), words(str(one.size))


def number(value: float | None, digits: int = 3) -> Cell:
    """A number of fixed precision."""
    return Cell(NOTHING if value is None else f"{value:.{digits}f}")


def amount(value: float | None) -> Cell:
    """A cell with a cost, to three digits."""
    if value is None:
        return Cell(NOTHING)
    return Cell(f"{value:,.0f}" if value >= 100 else f"{value:.3g}")


def count(value: int) -> Cell:
    """A cell with a count; 0 is shown as a dash."""
    return Cell(f"{value:,}" if value else NOTHING)


def share(value: float | None) -> Cell:
    """A percentage."""
    return Cell(NOTHING if value is None else f"{100 * value:.1f} %")


def interval(value: Interval | None) -> Cell:
    """A mean with its interval."""
    return Cell(NOTHING if value is None else interval_text(value))


def difference(value: Interval | None, p: float = 1.0) -> Cell:
    """A difference with its sign and interval.

    Args:
        value: the difference.
        p: of the test whether it is 0, adjusted for its table; marked if that is significant.
    """
    if value is None:
        return Cell(NOTHING)
    kind = ""
    if p < 1 - LEVEL and value.mean:
        kind = "better" if value.mean > 0 else "worse"
    return Cell(_with_ends(value, "+.3f"), kind)


def interval_text(value: Interval) -> str:
    """A mean with its interval."""
    return _with_ends(value, ".3f")


def _with_ends(value: Interval, form: str) -> str:
    """A mean and its interval, if there is one: without, nothing is known of its error."""
    mean = format(value.mean, form)
    return f"{mean} [{value.low:{form}}, {value.high:{form}}]" if value.is_known else mean


def p_value(value: float) -> Cell:
    """A p-value; small ones are not told apart."""
    return Cell("< 0.001" if value < 0.001 else f"{value:.3f}")


def markdown_document(sections: Sequence[tuple[Study, Sequence[Table]]]) -> str:
    """Writes all tables of all studies as one Markdown text."""
    parts = []
    for study, tables in sections:
        parts.append(
            f"# {_escape_markdown(study.title)}\n\n{_escape_markdown(study.settings)}. "
            f"{study.num_items} items, seeds {', '.join(map(str, study.seeds))}."
        )
        parts += [f"> {_escape_markdown(warning)}" for warning in study.warnings]
        parts += [markdown_table(one) for one in tables]
    return "\n\n".join(parts) + "\n"


def markdown_table(one: Table) -> str:
    """Writes a table under its title; what the adjusted test tells from chance is in bold."""
    align = ["---" if i < one.num_names else "---:" for i in range(len(one.columns))]
    lines = [_markdown_row(map(_escape_markdown, one.columns)), _markdown_row(align)]
    lines += [_markdown_row(map(_markdown_cell, row)) for row in one.rows]
    return "\n\n".join(
        [f"## {_escape_markdown(one.title)}", *map(_escape_markdown, one.notes), "\n".join(lines)]
    )


def _markdown_cell(cell: Cell) -> str:
    text = _escape_markdown(cell.text)
    return f"**{text}**" if cell.kind else text


def _markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escape_markdown(text: str) -> str:
    """Escapes what Markdown reads as marks, and what it would pass on as HTML."""
    for mark in ("\\", "|", "*", "_", "`", "<", ">", "[", "]"):
        text = text.replace(mark, "\\" + mark)
    return " ".join(text.split())

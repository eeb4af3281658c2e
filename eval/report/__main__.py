"""`python -m eval.report outputs/...`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from eval.analysis.intervals import RESAMPLES
from eval.report import figures
from eval.report.charts import make_charts
from eval.report.examples import choose_examples
from eval.report.findings import analyse_study
from eval.report.folders import find_runs
from eval.report.item_pages import FOLDER, write_item_pages
from eval.report.long_form import write_results
from eval.report.page import Content, make_environment, make_style, render_page
from eval.report.studies import group_studies
from eval.report.table import markdown_document
from eval.report.tables import make_tables
from rsalign import ConfigError, RsalignError

_FEWEST_RESAMPLES = 100
"""Fewer say nothing about the ends of an interval."""


def main(arguments: Sequence[str] | None = None, *, program: str = "eval.report") -> int:
    """Writes ``index.html``, ``tables.md``, ``results.csv``, ``figures/`` and ``items/``.

    Returns:
        The exit status: 2 if it cannot.
    """
    given = _parser(program).parse_args(arguments)
    try:
        written = report(
            given.folders,
            given.output or given.folders[0] / "report",
            resamples=given.resamples,
            with_figures=not given.no_figures,
            with_items=not given.no_items,
        )
    except RsalignError as error:
        sys.stderr.write(f"{program}: {error}\n")
        return 2
    print(written)
    return 0


def report(
    folders: Sequence[Path],
    output: Path,
    *,
    resamples: int = RESAMPLES,
    with_figures: bool = True,
    with_items: bool = True,
) -> Path:
    """Reads records and writes what they say; nothing is run.

    Args:
        folders: run folders, or folders that hold some.
        output: made if it is not there; files of the same names are overwritten.
        resamples: of every interval and test.
        with_figures: whether PNG and PDF files are written too: to ``figures/``, or of several
            studies to a folder in there for each.
        with_items: whether a page for each item, with all answers to it, is written to ``items/``.

    Returns:
        The page.

    Raises:
        ConfigError: if there are no records, or something cannot be read or written.
        InstallError: if matplotlib is missing.
    """
    if resamples < _FEWEST_RESAMPLES:
        raise ConfigError(f"resamples={resamples}: take at least {_FEWEST_RESAMPLES}")
    runs = find_runs(folders)
    compared = group_studies(runs)
    methods = sorted({one.method for study in compared for one in study.configurations})
    colours = {method: i for i, method in enumerate(methods)}
    contents = []
    for study in compared:
        found = analyse_study(study, resamples=resamples)
        contents.append(
            Content(
                study=study,
                tables=make_tables(found, colours, resamples=resamples),
                charts=make_charts(found, colours),
                examples=choose_examples(study, colours),
            )
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
        if with_figures:
            for i, content in enumerate(contents):
                # of one study where documents look for them, whatever its task is called
                apart = f"{i}-{content.study.task}" if len(contents) > 1 else ""
                figures.save_files(content.charts, output / "figures" / apart)
        sections = [(content.study, content.tables) for content in contents]
        (output / "tables.md").write_text(markdown_document(sections), encoding="utf-8")
        items_page = ""
        if with_items:
            listed = write_item_pages(
                compared, colours, output / FOLDER, make_environment(), make_style(colours)
            )
            items_page = listed.relative_to(output).as_posix()
        page = render_page(contents, runs, colours, items_page=items_page)
        (output / "index.html").write_text(page, encoding="utf-8")
        write_results(compared, output / "results.csv")
    except OSError as error:
        raise ConfigError(f"cannot write to {output}: {error}") from error
    return output / "index.html"


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program, description="Tables, figures and one page from records."
    )
    parser.add_argument(
        "folders", nargs="+", type=Path, help="run folders, or folders that hold some"
    )
    parser.add_argument("--output", type=Path, help="default: report/ in the first folder")
    parser.add_argument(
        "--resamples", type=int, default=RESAMPLES, help="of every interval and test"
    )
    parser.add_argument("--no-figures", action="store_true", help="no PNG and PDF files")
    parser.add_argument("--no-items", action="store_true", help="no page for each item")
    return parser


if __name__ == "__main__":
    sys.exit(main())

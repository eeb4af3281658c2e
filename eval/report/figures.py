"""Charts as PNG and PDF, for papers and slides."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.optional import require
from eval.report.chart import Chart, log_ticks, shifts, short
from eval.report.palette import COLOURS, place

_INCHES = (6.6, 3.6)
_DOTS_PER_INCH = 180
_PIXELS = 400
"""That the horizontal axis of the page's drawings has."""


def save(charts: Sequence[Chart], folder: Path) -> list[Path]:
    """Writes each chart as ``<key>.png`` and ``<key>.pdf``.

    Args:
        charts: of one study.
        folder: made if it is not there.

    Returns:
        What was written.

    Raises:
        InstallError: if matplotlib is missing.
    """
    matplotlib = require("matplotlib", "figures as PNG and PDF")
    matplotlib.use("agg")  # no display is needed, whatever the machine has
    pyplot = require("matplotlib.pyplot", "figures as PNG and PDF")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for chart in charts:
        figure, axes = pyplot.subplots(figsize=_INCHES, layout="constrained")
        _draw(chart, axes)
        figure.legend(loc="outside right upper", fontsize=6.5, frameon=False)
        for kind in ("png", "pdf"):
            path = folder / f"{chart.key}.{kind}"
            # without dates, so that the same records make the same files
            metadata = {"CreationDate": None} if kind == "pdf" else {}
            with pyplot.rc_context({"pdf.fonttype": 42}):  # letters stay letters
                figure.savefig(path, dpi=_DOTS_PER_INCH, metadata=metadata)
            written.append(path)
        pyplot.close(figure)
    return written


def _draw(chart: Chart, axes: Any) -> None:
    spread = max(chart.xs) / min(chart.xs) if chart.logarithmic else 1.0
    for series, shift in zip(chart.series, shifts(chart), strict=True):
        number, dashed = place(series.number)
        beside = spread ** (shift / _PIXELS)
        axes.errorbar(
            [point.x * beside for point in series.points],
            [point.y for point in series.points],
            yerr=(
                [point.y - point.low for point in series.points],
                [point.high - point.y for point in series.points],
            ),
            label=series.name,
            color=COLOURS[number][0],
            linestyle="--" if dashed else "-",
            linewidth=1.4,
            elinewidth=0.7 if series.has_marks else 0.0,
            marker="o" if series.has_marks else "",
            markersize=3.5,
        )
        bounds = [point for point in series.points if point.is_bound]
        axes.plot(
            [point.x * beside for point in bounds],
            [point.y for point in bounds],
            color=COLOURS[number][0],
            linestyle="",
            marker="o",
            markersize=3.5,
            markerfacecolor="white",
            zorder=5,
        )
    if chart.logarithmic:
        axes.set_xscale("log")
        ticks = chart.ticks or log_ticks(min(chart.xs), max(chart.xs))
        axes.set_xticks(ticks, [short(tick) for tick in ticks])
        axes.minorticks_off()
    if chart.mark:
        at, why = chart.mark
        axes.axvline(at, color="0.5", linewidth=0.9, linestyle=":")
        is_right = at > math.sqrt(min(chart.xs) * max(chart.xs))
        axes.annotate(
            why,
            (at, 1),
            xycoords=("data", "axes fraction"),
            xytext=(-3 if is_right else 3, -1),
            textcoords="offset points",
            horizontalalignment="right" if is_right else "left",
            verticalalignment="top",
            fontsize=7,
            color="0.4",
        )
    axes.set_xlabel(chart.x_name)
    axes.set_ylabel(chart.y_name)
    axes.set_title(chart.title, fontsize=10)
    axes.grid(axis="y", linewidth=0.4, color="0.85")
    axes.spines[["top", "right"]].set_visible(False)

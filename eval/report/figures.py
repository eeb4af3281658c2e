"""Draws charts with matplotlib: as SVG for the page, as PNG and PDF for papers and slides.

The page's drawings have no colours of their own. Each colour of `_PAGE_COLOURS` is replaced by a
variable of the style sheet, so that a drawing suits light and dark ground, and each element of a
method has a class by which a reader hides it.
"""

import io
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from eval.optional import require
from eval.report.chart import Chart, Series, format_tick

COLOURS = (
    ("#2a62c9", "#82aef5"),
    ("#c2521b", "#f0955f"),
    ("#7a3fb5", "#c39bf0"),
    ("#00838f", "#4fc7d1"),
    ("#ad2a63", "#f07fae"),
    ("#5f7300", "#b5c955"),
    ("#1f8a4c", "#4cc37f"),
    ("#8a5a2b", "#c99b6c"),
    ("#a67c00", "#e0b03f"),
    ("#555e6b", "#a7b0bd"),
)
"""Colours of series on light and on dark ground, as far apart as ten can be.

A series with a greater number takes them from the first again, dashed.
"""

_INCHES = (6.6, 3.6)
_DOTS_PER_INCH = 180
_MUTED, _RULE, _GROUND = "#667080", "#dfe2e6", "#ffffff"
_PAGE_COLOURS = {
    _MUTED: "var(--muted)",
    _RULE: "var(--rule)",
    _GROUND: "var(--page)",
    **{light: f"var(--series-{i})" for i, (light, _) in enumerate(COLOURS)},
}
_SETTINGS = {
    "font.size": 8.0,
    "text.parse_math": False,  # a dollar is a dollar
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _MUTED,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "text.color": _MUTED,
    "pdf.fonttype": 42,  # letters stay letters
    "svg.fonttype": "none",
    "svg.hashsalt": "rsalign",  # the same records make the same file
}
_PURPOSE = "the charts of a report"


def save_files(charts: Sequence[Chart], folder: Path) -> list[Path]:
    """Writes each chart as ``<key>.png`` and ``<key>.pdf``.

    Args:
        charts: of one study.
        folder: made if it is not there.

    Returns:
        What was written.

    Raises:
        InstallError: if matplotlib is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with require("matplotlib", _PURPOSE).rc_context(_SETTINGS):
        for chart in charts:
            figure = _plot(chart, lambda series, tip: "")
            figure.suptitle(chart.title, fontsize=10, color="black")
            for kind in ("png", "pdf"):
                path = folder / f"{chart.key}.{kind}"
                # without dates, so that the same records make the same files
                metadata = {"CreationDate": None} if kind == "pdf" else {}
                figure.savefig(path, dpi=_DOTS_PER_INCH, metadata=metadata)
                written.append(path)
    return written


def draw_svg(chart: Chart, prefix: str) -> Markup:
    """Draws a chart as an element of the page.

    Args:
        chart: to be drawn; its title is the page's to show.
        prefix: of all ids in the element; unique on the page.

    Raises:
        InstallError: if matplotlib is missing.
    """
    groups: list[Markup] = []

    def mark(series: Series, tip: str) -> str:
        """The name of a group, by which `_for_page` finds its class and what it says."""
        colour, _ = colour_and_dash(series.number)
        kind = f"series series-{colour}"
        if series.is_method:
            kind += f" method-{series.number}"
        title = Markup("<title>{}</title>").format(tip) if tip else Markup("")
        groups.append(Markup('<g class="{}">{}').format(kind, title))
        return f"marked-{len(groups) - 1}"

    drawing = io.StringIO()
    with require("matplotlib", _PURPOSE).rc_context(_SETTINGS):
        _plot(chart, mark).savefig(drawing, format="svg", transparent=True)
    return _for_page(drawing.getvalue(), chart.title, prefix, groups)


def _for_page(svg: str, label: str, prefix: str, groups: Sequence[Markup]) -> Markup:
    """Makes an SVG file an element that shares a page with others."""

    def group(found: re.Match[str]) -> str:
        number = re.fullmatch(r"marked-(\d+)", found[1])
        return str(groups[int(number[1])]) if number else "<g>"

    box = re.search(r'viewBox="[^"]*"', svg)
    assert box is not None
    body = svg[svg.index(">", box.end()) + 1 :]  # after the opening tag
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)  # it would hold for the page
    body = re.sub(r'<g id="([^"]*)">', group, body)
    body = re.sub(r'(?<=\s)id="', f'id="{prefix}-', body)
    body = re.sub(r'xlink:href="#', f'href="#{prefix}-', body)
    body = re.sub(r"font-family: [^;\"]*", "font-family: system-ui, sans-serif", body)
    for colour, variable in _PAGE_COLOURS.items():
        body = body.replace(colour, variable)
    start = f'<svg {box[0]} role="img" aria-label="{escape(label)}">'
    return Markup(start + body)


def _plot(chart: Chart, mark: Callable[[Series, str], str]) -> Any:
    """Draws a chart as a matplotlib figure.

    Args:
        chart: to be drawn.
        mark: gives the group of a series, or of one of its points, a name; "" for none.
    """
    figures = require("matplotlib.figure", _PURPOSE)
    figure = figures.Figure(figsize=_INCHES, layout="constrained")
    axes = figure.subplots()
    handles = [_draw_series(axes, series, mark) for series in chart.series]
    _draw_axes(axes, chart)
    legend = figure.legend(
        handles=handles, loc="outside right upper", fontsize=6.5, frameon=False, labelcolor=_MUTED
    )
    for series, *parts in zip(chart.series, legend.legend_handles, legend.get_texts(), strict=True):
        for part in parts:
            part.set_gid(mark(series, "") or None)
    return figure


def _draw_series(axes: Any, series: Series, mark: Callable[[Series, str], str]) -> Any:
    """Draws lines, intervals and points, each at its true place; returns the line."""
    number, dashed = colour_and_dash(series.number)
    colour = COLOURS[number][0]
    common = {"color": colour, "clip_on": False}
    [line] = axes.plot(
        [point.x for point in series.points],
        [point.y for point in series.points],
        label=series.name,
        linestyle="--" if dashed else "-",
        linewidth=1.4,
        gid=mark(series, "") or None,
        **common,
    )
    if not series.has_marks:
        return line
    for point in series.points:
        gid = mark(series, point.tip) or None
        if point.high > point.low:
            axes.plot(
                [point.x] * 2,
                [point.low, point.high],
                linewidth=0.7,
                alpha=0.6,
                gid=gid,
                **common,
            )
        axes.plot(
            [point.x],
            [point.y],
            linestyle="",
            marker="o",
            markersize=3.5,
            markerfacecolor=_GROUND if point.is_bound else colour,
            gid=gid,
            **common,
        )
    return line


def _draw_axes(axes: Any, chart: Chart) -> None:
    ticker = require("matplotlib.ticker", _PURPOSE)
    if chart.logarithmic:
        axes.set_xscale("log")
        decades = math.log10(max(chart.xs) / min(chart.xs))
        ticks = chart.ticks or (chart.xs[:1] if decades == 0 else ())
        steps = (1, 2, 5) if decades < 2.5 else (1, 3) if decades < 4 else (1,)
        axes.xaxis.set_major_locator(
            ticker.FixedLocator(ticks) if ticks else ticker.LogLocator(subs=steps)
        )
        axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: format_tick(value)))
    axes.tick_params(bottom=False, left=False)
    axes.set_xlabel(f"{chart.x_name} (log scale)" if chart.logarithmic else chart.x_name)
    axes.set_ylabel(chart.y_name)
    axes.grid(axis="y", linewidth=0.6, color=_RULE, clip_on=False)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if chart.mark:
        at, why = chart.mark
        axes.axvline(at, color=_MUTED, linewidth=0.9, linestyle=":", clip_on=False)
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
        )


def style_sheet() -> str:
    """Writes the colours as a style sheet: ``--c`` of the classes ``series-0``, ``series-1`` ..."""

    def variables(ground: int) -> str:
        return " ".join(f"--series-{i}: {pair[ground]};" for i, pair in enumerate(COLOURS))

    classes = " ".join(f".series-{i} {{ --c: var(--series-{i}); }}" for i in range(len(COLOURS)))
    return (
        f":root {{ {variables(0)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {variables(1)} }} }}\n{classes}\n"
    )


def colour_and_dash(number: int) -> tuple[int, bool]:
    """The index in `COLOURS` for a series, and whether its line is dashed."""
    return number % len(COLOURS), number >= len(COLOURS)

"""Charts as SVG for the page: colours are the style sheet's, so that they suit light and dark."""

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from markupsafe import Markup

from eval.report.chart import Chart, Series, log_ticks, shifts, short
from eval.report.palette import place
from rsalign.report.canvas import Axis, Canvas, axis_spanning

_WIDTH, _HEIGHT = 600.0, 330.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 452.0, 26.0, 284.0
_LINE = 13.0
"""Least distance of labels, pixels."""
_MOST_LETTERS = 20


def drawn(chart: Chart) -> Markup:
    """The chart as an element; a series is named where it ends."""
    plot = _Plot(_WIDTH, _HEIGHT, chart.title)
    x, y = _horizontal(chart), axis_spanning(chart.ys, _BOTTOM, _TOP)
    _axes(plot, chart, x, y)
    if chart.mark:
        at, why = chart.mark
        plot.line([(x.at(at), _TOP), (x.at(at), _BOTTOM)], "threshold")
        end = x.at(at) > (_LEFT + _RIGHT) / 2
        plot.text(x.at(at) + (-5 if end else 5), _TOP + 10, why, "end" if end else "start")
    labels = _spread([y.at(series.points[-1].y) for series in chart.series])
    for series, label, shift in zip(chart.series, labels, shifts(chart), strict=True):
        _draw(plot, series, replace(x, start=x.start + shift, end=x.end + shift), y, label)
    return plot.svg()


class _Plot(Canvas):
    """A canvas with groups, which a reader may hide."""

    @contextmanager
    def group(self, kind: str) -> Iterator[None]:
        """What is drawn inside belongs together."""
        self._parts.append(Markup('<g class="{}">').format(kind))
        yield
        self._parts.append(Markup("</g>"))


@dataclass(frozen=True, slots=True)
class _LogAxis(Axis):
    """A logarithmic scale; both ends above 0."""

    def at(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, number: int = 7) -> list[float]:
        return log_ticks(self.low, self.high, number)


def _horizontal(chart: Chart) -> Axis:
    if not chart.logarithmic:
        return axis_spanning(chart.xs, _LEFT, _RIGHT)
    low, high = min(chart.xs), max(chart.xs)
    room = max((high / low) ** 0.05, 1.1)
    return _LogAxis(low / room, high * room, _LEFT, _RIGHT)


def _axes(plot: Canvas, chart: Chart, x: Axis, y: Axis) -> None:
    for value in y.ticks(8):
        plot.line([(x.start, y.at(value)), (x.end, y.at(value))], "grid")
        plot.text(x.start - 7, y.at(value) + 4, f"{round(value, 10):g}", "end")
    for value in chart.ticks or x.ticks(7):
        plot.line([(x.at(value), y.start), (x.at(value), y.start + 4)], "grid")
        plot.text(x.at(value), y.start + 18, short(value), "middle")
    plot.text((x.start + x.end) / 2, y.start + 36, chart.x_name, "middle")
    plot.text(x.start - 48, y.end - 12, chart.y_name)


def _draw(plot: _Plot, series: Series, x: Axis, y: Axis, label: float) -> None:
    colour, dashed = place(series.number)
    hidden_with = f" method-{series.number}" if series.is_method else ""
    with plot.group(f"series series-{colour}{hidden_with}"):
        path = [(x.at(point.x), y.at(point.y)) for point in series.points]
        marks = list(zip(series.points, path, strict=True)) if series.has_marks else []
        for point, (left, _) in marks:
            if point.high > point.low:
                plot.line([(left, y.at(point.low)), (left, y.at(point.high))], "error")
        if len(path) > 1:
            plot.line(path, "states dashed" if dashed else "states")
        for point, (left, height) in marks:
            kind = "point bound" if point.is_bound else "point"
            plot.dot(left, height, kind, tip=point.tip, radius=3.5)
        left, height = path[-1]
        plot.line([(left + 5, height), (_RIGHT + 4, label), (_RIGHT + 10, label)], "lead")
        plot.text(_RIGHT + 13, label + 4, _clipped(series.name))


def _spread(heights: Sequence[float]) -> list[float]:
    """Heights for labels: as near to these as they can be without covering each other."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    placed = list(heights)
    for above, below in itertools.pairwise(order):
        placed[below] = max(placed[below], placed[above] + _LINE)
    lowest = _BOTTOM
    for i in reversed(order):
        placed[i] = min(placed[i], lowest)
        lowest = placed[i] - _LINE
    return placed


def _clipped(name: str) -> str:
    return (
        name
        if len(name) <= _MOST_LETTERS
        else name[: _MOST_LETTERS - 1] + "\N{HORIZONTAL ELLIPSIS}"
    )

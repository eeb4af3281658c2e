"""A chart as data, before `eval.report.figures` draws it for the page or for a paper."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A mean and its interval.

    Attributes:
        x: place on the horizontal axis.
        y: the mean.
        low: lower end of its interval; `y` if there is none.
        high: upper end.
        tip: what it is.
        is_bound: whether its place is no more than an upper bound: drawn hollow.
    """

    x: float
    y: float
    low: float
    high: float
    tip: str
    is_bound: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Points of one method, joined by lines in order.

    Attributes:
        name: of the method, or of something else that is drawn beside others.
        number: its colour (`eval.report.figures.COLOURS`).
        points: in order of their sizes; at least one.
        is_method: whether it comes and goes with the method of that number.
        has_marks: whether points and their intervals are drawn, or the line alone.
    """

    name: str
    number: int
    points: Sequence[Point]
    is_method: bool = True
    has_marks: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Values over a cost, or over another value.

    Attributes:
        key: name of its files, unique within a study.
        title: what it shows.
        x_name: of the horizontal axis, and its unit.
        y_name: of the vertical axis, and its unit.
        series: at least one.
        logarithmic: whether the horizontal axis is; all x are above 0 then.
        ticks: of the horizontal axis; round values if there are none.
        note: how to read it; empty if it speaks for itself.
        mark: a place on a logarithmic axis that matters, and why; None if there is none.
    """

    key: str
    title: str
    x_name: str
    y_name: str
    series: Sequence[Series]
    logarithmic: bool
    ticks: Sequence[float] = ()
    note: str = ""
    mark: tuple[float, str] | None = None

    @property
    def xs(self) -> list[float]:
        """Of all points."""
        return [point.x for series in self.series for point in series.points]


def format_tick(value: float) -> str:
    """A number for a tick.

    >>> [format_tick(value) for value in (0.02, 5, 1500, 20000, 3e6)]
    ['0.02', '5', '1.5k', '20k', '3M']
    """
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"

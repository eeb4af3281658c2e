"""Canvas: a drawing in SVG with two axes; the style sheet sets the colours."""

import math
from dataclasses import dataclass, field

from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear scale.

    Attributes:
        low: the value at `start`.
        high: the value at `end`.
        start: position in pixels.
        end: position in pixels.
    """

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The position of a value in pixels."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, number: int = 5) -> list[float]:
        """About `number` round values on the axis."""
        rough = (self.high - self.low) / number
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]


def axis_spanning(values: list[float], start: float, end: float) -> Axis:
    """An axis with room for all values, also if they are all equal."""
    low, high = min(values), max(values)
    room = (high - low) * 0.06 or max(abs(high) * 0.1, 0.5)
    return Axis(low - room, high + room, start, end)


@dataclass(slots=True)
class Canvas:
    """Elements in the order they are painted.

    Attributes:
        width: in pixels of the drawing; the browser scales it.
        height: in pixels of the drawing.
        label: what it shows, for screen readers.
    """

    width: float
    height: float
    label: str
    _parts: list[Markup] = field(default_factory=list)

    def line(self, points: list[tuple[float, float]], kind: str) -> None:
        """Adds a line through points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(Markup('<polyline class="{}" points="{}"/>').format(kind, path))

    def rect(
        self, x: float, y: float, width: float, height: float, kind: str, *, tip: str = ""
    ) -> None:
        """Adds a filled rectangle; a negative width or height counts as 0."""
        self._parts.append(
            Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">').format(
                kind, x, y, max(width, 0.0), max(height, 0.0)
            )
            + _title(tip)
            + Markup("</rect>")
        )

    def dot(
        self, x: float, y: float, kind: str, *, tip: str, href: str = "", radius: float = 3
    ) -> None:
        """Adds a point with a tooltip and, if `href` is given, a link."""
        dot = (
            Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{}">').format(kind, x, y, radius)
            + _title(tip)
            + Markup("</circle>")
        )
        self._parts.append(Markup('<a href="{}">{}</a>').format(href, dot) if href else dot)

    def text(self, x: float, y: float, text: str, anchor: str = "start") -> None:
        """Adds a text; `anchor` is ``"start"``, ``"middle"`` or ``"end"``."""
        self._parts.append(
            Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
                x, y, anchor, text
            )
        )

    def axes(self, x: Axis, y: Axis, *, x_name: str, y_name: str, whole: bool = False) -> None:
        """Adds ticks with values, grid lines, and the names of both axes.

        Args:
            x: the horizontal axis, from left to right.
            y: the vertical axis, from bottom to top.
            x_name: name and unit of the horizontal axis.
            y_name: name and unit of the vertical axis.
            whole: whether the vertical axis has ticks at whole numbers only.
        """
        for value in y.ticks(round((y.start - y.end) / 26)):
            if whole and value != round(value):
                continue
            self.line([(x.start, y.at(value)), (x.end, y.at(value))], "grid")
            self.text(x.start - 6, y.at(value) + 4, f"{value:.6g}", "end")
        for value in x.ticks(8):
            if value == round(value):
                self.text(x.at(value), y.start + 16, f"{value:.0f}", "middle")
        self.text(x.start - 6, y.start + 16, x_name, "end")
        self.text(x.start - 6, y.end - 8, y_name, "end")

    def svg(self) -> Markup:
        """The drawing as an SVG element."""
        return Markup(
            '<svg viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}" style="max-width:{}px">{}'
            "</svg>"
        ).format(
            self.width,
            self.height,
            self.label,
            round(self.width * 1.4),
            Markup("").join(self._parts),
        )


def _title(tip: str) -> Markup:
    return Markup("<title>{}</title>").format(tip) if tip else Markup("")

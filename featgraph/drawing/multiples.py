"""The same small chart for each layer, on shared axes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from featgraph.drawing.colours import SERIES, Theme
from featgraph.drawing.svg import Canvas, heading, number
from featgraph.drawing.text import fit, text_width, visible


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str
    points: Sequence[tuple[float, float]]
    """(x, y), sorted by x; NaN breaks the line."""


@dataclass(frozen=True)
class Panel:
    """One small chart."""

    title: str
    series: Sequence[Series]
    """Series with the same name have the same colour in all panels."""
    noise_below: float | None = None
    """Values left of this x are noise; that part is shaded."""


_MARGIN = 20
_WIDE, _HIGH = 230.0, 130.0
_LEFT, _GAP, _HEAD, _FOOT = 46.0, 22.0, 26.0, 22.0
_DASHES = (None, "7 3", "2 2.4", "9 3 2 3", "4 2", "1 2", "12 3", "6 2 1 2")
"""Dashes of each series, so that a reader can tell them apart without colour."""


def draw_small_multiples(
    panels: Sequence[Panel],
    *,
    title: str = "",
    subtitle: str = "",
    x_name: str = "",
    y_name: str = "",
    n_across: int = 4,
    theme: Theme = "auto",
) -> str:
    """Return, as SVG, small charts side by side, with the same axes in all."""
    canvas = Canvas(theme)
    n_across = max(1, min(n_across, len(panels) or 1))
    width = 2 * _MARGIN + _LEFT + n_across * (_WIDE + _GAP) - _GAP + 10
    room = width - 2 * _MARGIN
    y = heading(canvas, title, subtitle, _MARGIN, room)
    fullest = sorted(panels, key=lambda panel: -len(panel.series))
    names = list(dict.fromkeys(series.name for panel in fullest for series in panel.series))
    y = _legend(canvas, names, y + 10, room, any(panel.noise_below is not None for panel in panels))
    points = [
        point
        for panel in panels
        for series in panel.series
        for point in series.points
        if all(map(math.isfinite, point))
    ]
    axes = _Axes.of(points)
    if y_name:
        canvas.text(fit(visible(y_name), room, 10.5), _MARGIN, y + 6, 10.5, fill="quiet")
        y += 12
    for place, panel in enumerate(panels):
        left = _MARGIN + _LEFT + (place % n_across) * (_WIDE + _GAP)
        top = y + (place // n_across) * (_HEAD + _HIGH + _FOOT) + _HEAD
        with canvas.group(class_="panel"):
            _panel(canvas, panel, axes, names, left, top, outer=place % n_across == 0)
    y += -(-len(panels) // n_across) * (_HEAD + _HIGH + _FOOT)
    if x_name:
        canvas.text(
            fit(visible(x_name), room, 10.5), width - _MARGIN, y + 8, 10.5, fill="quiet", anchor="end"
        )
    if not panels:
        canvas.text("no rows", width / 2, y + 20, 13, fill="quiet", anchor="middle")
        y += 30
    return canvas.finish(width, y + 20, visible(title) or "Small multiples", class_="multiples")


@dataclass(frozen=True)
class _Axes:
    """The ranges of both axes, which all charts share."""

    left: float
    right: float
    low: float
    high: float

    @classmethod
    def of(cls, points: Sequence[tuple[float, float]]) -> "_Axes":
        """Return axes that contain all points; y starts at 0."""
        left, right = _ends([x for x, _ in points])
        low, high = _ends([0.0, *(y for _, y in points)])
        return cls(left, right, low, high + (high - low) * 0.04)

    def x(self, value: float) -> float:
        return (value - self.left) / (self.right - self.left) * _WIDE

    def y(self, value: float) -> float:
        return _HIGH - (value - self.low) / (self.high - self.low) * _HIGH


def _ends(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (low, high) if high > low else (low, low + 1.0)


def ticks(low: float, high: float, n: int) -> list[float]:
    """Return about n round numbers from `low` to `high`, which must be above it.

    >>> ticks(0.3, 0.9, 4), ticks(0, 1070, 4)
    ([0.4, 0.6, 0.8], [0.0, 500.0, 1000.0])
    """
    rough = (high - low) / n
    power = math.floor(math.log10(rough))
    step = next(size for size in (1, 2, 5, 10) if size * 10.0**power >= rough * 0.999) * 10.0**power
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{place * step:.12g}") for place in range(first, last + 1)]


def _panel(
    canvas: Canvas, panel: Panel, axes: _Axes, names: Sequence[str], left: float, top: float, *, outer: bool
) -> None:
    canvas.text(fit(visible(panel.title), _WIDE, 12, bold=True), left, top - 8, 12, bold=True)
    if panel.noise_below is not None and panel.noise_below > axes.left:
        wide = axes.x(min(panel.noise_below, axes.right))
        canvas.add("rect", x=left, y=top, width=wide, height=_HIGH, fill="rule", fill_opacity=".6")
    for value in ticks(axes.low, axes.high, 4):
        y = top + axes.y(value)
        canvas.add("path", d=f"M{number(left)} {number(y)}h{number(_WIDE)}", stroke="rule", stroke_width=1)
        if outer:
            canvas.text(f"{value:,g}", left - 6, y + 3.5, 10, fill="quiet", anchor="end")
    for value in ticks(axes.left, axes.right, 5):
        x = left + axes.x(value)
        canvas.text(f"{value:g}", x, top + _HIGH + 14, 10, fill="quiet", anchor="middle")
    for series in panel.series:
        place = names.index(series.name)
        canvas.add(
            "path",
            canvas.title(f"{panel.title}: {series.name}"),
            d=_line(series.points, axes, left, top),
            fill="none",
            stroke=f"s{place % SERIES}",
            stroke_width=2,
            stroke_linejoin="round",
            stroke_dasharray=_DASHES[place % len(_DASHES)],
            class_="series",
        )


def _line(points: Sequence[tuple[float, float]], axes: _Axes, left: float, top: float) -> str:
    parts: list[str] = []
    drawn = False
    for x, y in points:
        if not (math.isfinite(x) and math.isfinite(y)):
            drawn = False
            continue
        parts.append(f"{'L' if drawn else 'M'}{number(left + axes.x(x))} {number(top + axes.y(y))}")
        drawn = True
    return "".join(parts) or f"M{number(left)} {number(top)}"


def _legend(canvas: Canvas, names: Sequence[str], y: float, room: float, shaded: bool) -> float:
    """Draw the names of the series with their lines; return the y of the lower edge."""
    x = float(_MARGIN)
    entries = [(fit(visible(name), 200, 11), place) for place, name in enumerate(names)]
    for text, place in [*entries, *([("below chance", -1)] if shaded else [])]:
        wide = 32 + text_width(text, 11) + 20
        if x > _MARGIN and x + wide > _MARGIN + room:
            x, y = float(_MARGIN), y + 18
        if place < 0:
            canvas.add("rect", x=x, y=y, width=26, height=10, fill="rule", fill_opacity=".6")
        else:
            canvas.add(
                "path",
                d=f"M{number(x)} {number(y + 5)}h26",
                stroke=f"s{place % SERIES}",
                stroke_width=2,
                stroke_dasharray=_DASHES[place % len(_DASHES)],
            )
        canvas.text(text, x + 32, y + 9, 11)
        x += wide
    return y + 22 if names else y

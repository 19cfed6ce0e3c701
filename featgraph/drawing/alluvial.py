"""Draws how many features persist, die, are born, split and merge between layers: an alluvial diagram."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from featgraph.drawing.colours import Theme
from featgraph.drawing.graph import Origin
from featgraph.drawing.svg import Canvas, heading, number
from featgraph.drawing.text import text_width, visible

ORIGINS: dict[Origin, str] = {"mlp": "mlp", "att": "att", "mlp+att": "both", "unexplained": "born"}
"""Origin of a birth -> its colour."""


@dataclass(frozen=True)
class Passage:
    """The numbers of features that persist, die, are born, split and merge between two layers.

    Raises ValueError: more features persist, die or are born than the layers have.
    """

    layer_a: int
    layer_b: int
    n_a: int
    n_b: int
    n_persists: int
    n_births: int
    n_deaths: int
    n_splits: int = 0
    n_merges: int = 0
    origins: Mapping[Origin, int] = field(default_factory=dict)
    """Number of births by origin; births of unknown origin are in none."""
    is_noise: bool = False
    """Whether the threshold is below the cosine that features reach by chance."""

    def __post_init__(self) -> None:
        where = f"layers {self.layer_a} to {self.layer_b}"
        counts = (self.n_persists, self.n_births, self.n_deaths, self.n_splits, self.n_merges)
        if min(*counts, *self.origins.values(), 0) < 0:
            raise ValueError(f"{where}: a number is below 0")
        if self.n_persists + self.n_deaths > self.n_a or self.n_persists + self.n_births > self.n_b:
            raise ValueError(f"{where}: more features persist, die or are born than there are")
        if sum(self.origins.values()) > self.n_births:
            raise ValueError(f"{where}: more births have an origin than there are births")


_MARGIN = 24
_BAR = 9
_HEAD = 62
_HIGH = 250
_FALL = 40
"""Room below the bars, into which deaths fall and from which births rise."""


def draw_alluvial(
    passages: Sequence[Passage],
    *,
    title: str = "",
    subtitle: str = "",
    width: float | None = None,
    theme: Theme = "auto",
) -> str:
    """Return, as SVG, how many features persist, die, are born, split and merge between layers.

    Raises ValueError: a passage does not begin at the layer at which the previous one ends.
    """
    for before, after in pairwise(passages):
        if (before.layer_b, before.n_b) != (after.layer_a, after.n_a):
            raise ValueError(f"after layers {before.layer_a} to {before.layer_b} comes layer {after.layer_a}")
    canvas = Canvas(theme)
    gap = 150.0 if width is None else max(50.0, (width - 2 * _MARGIN - 60) / max(1, len(passages)))
    left = _MARGIN + 30
    width = max(left + gap * len(passages) + _BAR + left, 420.0)
    top = heading(canvas, title, subtitle, _MARGIN, width - 2 * _MARGIN) + _HEAD
    scale = _HIGH / max([1, *(n for passage in passages for n in (passage.n_a, passage.n_b))])
    origins = [origin for origin in ORIGINS if any(passage.origins.get(origin) for passage in passages)]
    _fades(canvas, [*origins, None], top)
    for place, passage in enumerate(passages):
        x = left + place * gap
        with canvas.group(label=_name(passage), class_="passage", data_layer=passage.layer_a):
            _passage(canvas, passage, x + _BAR, x + gap, top, scale)
    for place, layer in enumerate(_layers(passages)):
        _bar(canvas, layer, left + place * gap, top, scale)
    if not passages:
        canvas.text("no layers", width / 2, top, 13, fill="quiet", anchor="middle")
    bottom = top + _HIGH + _FALL + 34
    _legend(canvas, passages, origins, bottom)
    return canvas.finish(width, bottom + 26, visible(title) or "Features over depth", class_="alluvial")


@dataclass(frozen=True)
class _Layer:
    layer: int
    n: int
    n_splits: int | None
    n_merges: int | None
    is_noise: bool


def _layers(passages: Sequence[Passage]) -> list[_Layer]:
    if not passages:
        return []
    first, last = passages[0], passages[-1]
    layers = [_Layer(first.layer_a, first.n_a, first.n_splits, None, first.is_noise)]
    for before, after in pairwise(passages):
        layers.append(_Layer(after.layer_a, after.n_a, after.n_splits, before.n_merges, before.is_noise))
    return [*layers, _Layer(last.layer_b, last.n_b, None, last.n_merges, last.is_noise)]


def _bar(canvas: Canvas, layer: _Layer, x: float, top: float, scale: float) -> None:
    """Draw a layer's bar, with its name and its splits and merges above."""
    middle = x + _BAR / 2
    canvas.text(f"layer {layer.layer}", middle, top - 42, 12, bold=True, anchor="middle")
    for line, (n, word) in enumerate([(layer.n_splits, "split"), (layer.n_merges, "merge")]):
        if n is not None:
            text = f"{n:,} {word}{'' if n == 1 else 's'}"
            canvas.text(text, middle, top - 27 + 14 * line, 11, fill="quiet", anchor="middle")
    colour = "warning" if layer.is_noise else "ink"
    with canvas.group(label=f"layer {layer.layer}: {layer.n:,} features"):
        canvas.add("rect", x=x, y=top, width=_BAR, height=max(1.0, layer.n * scale), rx=2.5, fill=colour)


def _passage(canvas: Canvas, passage: Passage, x: float, end: float, top: float, scale: float) -> None:
    """Draw the bands between two bars: features that persist or pass, deaths and births."""
    same = passage.n_persists * scale
    out, into = passage.n_a * scale - same, passage.n_b * scale - same
    dies, born = passage.n_deaths * scale, passage.n_births * scale
    canvas.add("path", d=_band(x, top, same, end, top, same), fill="persists", class_="persists")
    canvas.add(
        "path",
        d=_band(x, top + same, out - dies, end, top + same, into - born),
        fill="passes",
        class_="passes",
    )
    foot = top + _HIGH + _FALL
    if passage.n_deaths:
        falls = _Turn(x, top + same + out - dies, dies, (end - x) * 0.44, foot)
        canvas.add("path", d=falls.part(0, 1), fill="url(#fade-dies)", class_="dies")
        canvas.text(f"{passage.n_deaths:,} die", x + 4, foot + 16, 11, fill="quiet")
    if passage.n_births:
        rises = _Turn(end, top + same + into - born, born, (x - end) * 0.44, foot)
        done = 0.0
        for origin, n in _births(passage):
            share = n / passage.n_births
            d = rises.part(done, done + share)
            canvas.add("path", d=d, fill=f"url(#fade-{_fade(origin)})", class_="born")
            done += share
        canvas.text(f"{passage.n_births:,} born", end - 4, foot + 16, 11, fill="quiet", anchor="end")
    if same > 16:
        middle = (x + end) / 2
        count = f"{passage.n_persists:,}"
        canvas.text(count, middle, top + same / 2 + 4, 12, fill="paper", bold=True, anchor="middle")


def _births(passage: Passage) -> list[tuple[Origin | None, int]]:
    """Return (origin, number of births), without zeros; births of unknown origin (None) come last."""
    known: list[tuple[Origin | None, int]] = [(origin, passage.origins.get(origin, 0)) for origin in ORIGINS]
    left = passage.n_births - sum(n for _, n in known)
    return [(origin, n) for origin, n in [*known, (None, left)] if n]


def _band(x: float, y: float, high: float, end: float, end_y: float, end_high: float) -> str:
    """Return the outline of a band from one bar to the next."""
    middle = (x + end) / 2
    corners = [(x, y), (middle, y), (middle, end_y), (end, end_y)]
    back = [(end, end_y + end_high), (middle, end_y + end_high), (middle, y + high), (x, y + high)]
    upper, lower = ([f"{number(at)} {number(height)}" for at, height in edge] for edge in (corners, back))
    return f"M{upper[0]}C{' '.join(upper[1:])}L{lower[0]}C{' '.join(lower[1:])}z"


@dataclass(frozen=True)
class _Turn:
    """A band that leaves a bar horizontally and bends down to the foot of the picture."""

    x: float
    y: float
    """Height of its upper corner at the bar."""
    high: float
    reach: float
    """Horizontal distance of its outer edge from the bar; negative to the left."""
    foot: float

    def part(self, start: float, end: float) -> str:
        """Return the outline of the part between two shares of the height of the band."""
        outer, inner = self._edge(start), self._edge(end)
        return f"M{outer[0]}C{outer[1]} {outer[2]} {outer[3]}L{inner[3]}C{inner[2]} {inner[1]} {inner[0]}z"

    def _edge(self, share: float) -> list[str]:
        """Return start, two control points and end of the curve at a share of the height of the band."""
        y = self.y + self.high * share
        narrow = min(0.6, self.high * 0.5 / abs(self.reach))
        out = self.reach * (1 - narrow * share)
        points = [(0.0, y), (out * 0.62, y), (out, y + (self.foot - y) * 0.3), (out, self.foot)]
        return [f"{number(self.x + dx)} {number(at)}" for dx, at in points]


def _fade(origin: Origin | None) -> str:
    return "born" if origin is None else origin.replace("+", "-")


def _fades(canvas: Canvas, origins: Sequence[Origin | None], top: float) -> None:
    """Define colour gradients that fade towards the foot of the picture."""
    colours = [
        ("dies", "dies"),
        *((_fade(origin), ORIGINS[origin] if origin else "born") for origin in origins),
    ]
    for name, colour in colours:
        stops = canvas.element("stop", offset="0", stop_color=colour, stop_opacity=".95")
        stops += canvas.element("stop", offset=".55", stop_color=colour, stop_opacity=".75")
        stops += canvas.element("stop", offset="1", stop_color=colour, stop_opacity="0")
        canvas.define(
            "linearGradient",
            stops,
            id=f"fade-{name}",
            gradientUnits="userSpaceOnUse",
            x1=0,
            y1=top,
            x2=0,
            y2=top + _HIGH + _FALL,
        )


def _name(passage: Passage) -> str:
    parts = [
        f"layer {passage.layer_a} to {passage.layer_b}",
        f"{passage.n_persists:,} persist",
        f"{passage.n_a - passage.n_persists - passage.n_deaths:,} more have a child",
        f"{passage.n_deaths:,} die",
        f"{passage.n_births:,} are born",
    ]
    parts += [f"{n:,} of them {origin}" for origin, n in passage.origins.items() if n]
    return "\n".join(parts)


def _legend(canvas: Canvas, passages: Sequence[Passage], origins: Sequence[Origin], y: float) -> None:
    entries = [("persists", "persists"), ("passes", "other links that pass"), ("dies", "dies")]
    if origins:
        entries += [(ORIGINS[origin], f"born: {origin}") for origin in origins]
    elif any(passage.n_births for passage in passages):
        entries.append(("born", "born"))
    if any(passage.is_noise for passage in passages):
        entries.append(("warning", "threshold below chance"))
    x = float(_MARGIN)
    for colour, text in entries:
        canvas.add("rect", x=x, y=y, width=12, height=10, rx=2.5, fill=colour)
        canvas.text(text, x + 17, y + 9, 10.5, fill="quiet")
        x += 17 + text_width(text, 10.5) + 18

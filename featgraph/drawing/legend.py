"""The legend of a lineage picture: the marks, widths and colours that occur in it."""

from collections.abc import Callable, Iterator
from functools import partial

from featgraph.drawing import marks
from featgraph.drawing.colours import STEPS
from featgraph.drawing.graph import LineageGraph, Origin, Site
from featgraph.drawing.layout import Layout
from featgraph.drawing.svg import Canvas
from featgraph.drawing.text import fit, text_width, visible

SIZE = 10.5
"""Font size."""

LINE = 20
"""Height of a line."""

_SPACE = 18
_ORIGINS: dict[Origin, str] = {
    "mlp": "born of mlp",
    "att": "born of att",
    "mlp+att": "of both",
    "unexplained": "unexplained",
}

Entry = tuple[float, Callable[[Canvas, float, float], None]]
"""Width of an entry, and the function that draws it at (canvas, left edge, middle line)."""


def legend(canvas: Canvas, layout: Layout, x: float, y: float, room: float, detail: str) -> float:
    """Draw the legend with its upper left corner at (x, y), in lines of width `room`; return its height."""
    at, line = x, y + LINE / 2
    for width, draw in _entries(layout, detail):
        if at > x and at + width > x + room:
            at, line = x, line + LINE
        draw(canvas, at, line)
        at += width + _SPACE
    return line + LINE / 2 - y


def _entries(layout: Layout, detail: str) -> Iterator[Entry]:
    graph = layout.graph
    if graph.links:
        if graph.measure is not None:
            yield _widths(layout, graph.measure)
        if graph.evidence is not None:
            yield _colours(graph.evidence)
            if any(link.is_doubtful for link in graph.links):
                yield _sample(_doubtful, 26, f"no {graph.evidence} of 0.1 or more: doubtful")
    if graph.seed is not None and any(node.key == graph.seed for node in graph.nodes):
        yield _sample(_seed, 14, "seed")
    origins = {node.born for node in graph.nodes}
    for origin, text in _ORIGINS.items():
        if origin in origins:
            yield _sample(partial(_birth, origin=origin), 13, text)
    if any(node.dies for node in graph.nodes):
        yield _sample(_death, 8, "dies here")
    if detail == "card":
        yield from _writers(graph)
    if detail != "bar" and any(node.n_parents_elsewhere or node.n_children_elsewhere for node in graph.nodes):
        yield _sample(_elsewhere, 26, "parents, children not drawn")
    for part, text in zip(("first", "second"), graph.parts, strict=True):
        if any(node.part == part for node in graph.nodes):
            yield _sample(partial(_part, part=part), 18, f"only in {text}")
    if graph.n_left_out:
        yield _sample(lambda *_: None, 0, f"{graph.n_left_out:,} more not drawn")


def _writers(graph: LineageGraph) -> Iterator[Entry]:
    sites = {writer.site for node in graph.nodes for writer in node.writers}
    if "mlp" in sites:
        yield _sample(partial(_writer, site="mlp"), 9, "mlp writer")
    if "att" in sites:
        yield _sample(partial(_writer, site="att"), 9, "att writer")


def _sample(draw: Callable[[Canvas, float, float], None], width: float, text: str) -> Entry:
    shown = fit(visible(text), 260, SIZE)
    gap = 5 if width else 0

    def drawn(canvas: Canvas, x: float, y: float) -> None:
        draw(canvas, x, y)
        canvas.text(shown, x + width + gap, y + 3.7, SIZE, fill="quiet")

    return width + gap + text_width(shown, SIZE), drawn


def _widths(layout: Layout, measure: str) -> Entry:
    """Return the entry of ribbon widths: the smallest, the middle and the largest value."""
    values = sorted({link.value for link in layout.graph.links})
    low, high = values[0], values[-1]
    sampled = sorted({_rounded(low), _rounded((low + high) / 2), _rounded(high)})
    text = fit(visible(measure), 120, SIZE)
    parts = [(value, f"{value:g}") for value in sampled]
    width = text_width(text, SIZE) + sum(8 + 22 + 4 + text_width(label, SIZE) for _, label in parts)

    def drawn(canvas: Canvas, x: float, y: float) -> None:
        canvas.text(text, x, y + 3.7, SIZE, fill="quiet")
        x += text_width(text, SIZE) + 8
        for value, label in parts:
            canvas.add("path", d=f"M{x:.1f} {y:.1f}h22", stroke="e4", stroke_width=value * layout.ribbon)
            canvas.text(label, x + 26, y + 3.7, SIZE, fill="quiet")
            x += 26 + text_width(label, SIZE) + 8

    return width, drawn


def _colours(evidence: str) -> Entry:
    text = fit(visible(evidence), 120, SIZE)
    step = 9.0
    start = text_width(text, SIZE) + 8 + text_width("0", SIZE) + 4
    width = start + STEPS * step + 4 + text_width("1", SIZE)

    def drawn(canvas: Canvas, x: float, y: float) -> None:
        canvas.text(text, x, y + 3.7, SIZE, fill="quiet")
        canvas.text("0", x + text_width(text, SIZE) + 8, y + 3.7, SIZE, fill="quiet")
        for number in range(STEPS):
            canvas.add("rect", x=x + start + number * step, y=y - 4, width=step, height=8, fill=f"e{number}")
        canvas.text("1", x + start + STEPS * step + 4, y + 3.7, SIZE, fill="quiet")

    return width, drawn


def _rounded(value: float) -> float:
    """Return a value to two significant digits."""
    return float(f"{value:.2g}")


def _doubtful(canvas: Canvas, x: float, y: float) -> None:
    canvas.add("path", d=f"M{x:.1f} {y:.1f}h26", stroke="e0", stroke_width=4, stroke_dasharray="3 2")


def _seed(canvas: Canvas, x: float, y: float) -> None:
    canvas.add(
        "rect", x=x, y=y - 5, width=14, height=10, rx=3, fill="seed-card", stroke="seed", stroke_width="2"
    )


def _birth(canvas: Canvas, x: float, y: float, origin: Origin) -> None:
    marks.birth(canvas, x + 6, y, origin)


def _writer(canvas: Canvas, x: float, y: float, site: Site) -> None:
    marks.writer(canvas, x + 4, y, site, 0.8)


def _death(canvas: Canvas, x: float, y: float) -> None:
    marks.death(canvas, x + 4, y - 8, 16)


def _part(canvas: Canvas, x: float, y: float, part: str) -> None:
    dashes = "4 2.5" if part == "second" else None
    canvas.add(
        "rect",
        x=x,
        y=y - 5,
        width=18,
        height=10,
        rx=3,
        fill="card",
        stroke=part,
        stroke_width="1.6",
        stroke_dasharray=dashes,
    )


def _elsewhere(canvas: Canvas, x: float, y: float) -> None:
    marks.parents_elsewhere(canvas, x, y, 3)
    marks.children_elsewhere(canvas, x + 26, y, 2)

"""A lineage as a layered picture: layers to the right, features as cards, links as ribbons."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from featgraph.drawing.cards import SIZES, WORD, draw_bar, draw_card, draw_line, first_words, name
from featgraph.drawing.colours import Theme, evidence_colour
from featgraph.drawing.graph import LineageGraph, Node
from featgraph.drawing.layout import Layout, Ribbon, Size, lay_out
from featgraph.drawing.legend import legend
from featgraph.drawing.svg import Canvas, heading, number
from featgraph.drawing.text import fit, text_width, visible

Detail = Literal["card", "line", "bar"]

CARDS = 24
"""Most features of one column that detail `auto` draws as cards. Our choice."""

LINES = 60
"""Most features of one column that detail `auto` draws as lines. Our choice."""

NARROWEST = 118
"""Smallest width of a column of cards or lines, the gap included."""

_MARGIN = 20
_ABOVE = 12
"""Height of a word above a bar."""


@dataclass(frozen=True)
class Options:
    """Options of a lineage picture."""

    detail: Detail | Literal["auto"] = "auto"
    """auto: cards, lines or bars, by the width and the fullest column."""
    width: float | None = None
    """Width of the picture; None: columns have their preferred width."""
    theme: Theme = "auto"
    before: Sequence[Sequence[str]] = ()
    """`Layout.order` of an earlier, similar picture, so that features keep their places."""


def draw_lineage(graph: LineageGraph, options: Options | None = None) -> str:
    """Return a lineage as SVG."""
    return arrange(graph, options or Options()).draw()


@dataclass(frozen=True)
class Picture:
    """A lineage with its layout and level of detail."""

    layout: Layout
    detail: Detail
    theme: Theme
    words: dict[str, str]
    """Key -> word above its bar."""

    def draw(self) -> str:
        """Return the picture as SVG."""
        layout, graph = self.layout, self.layout.graph
        canvas = Canvas(self.theme)
        left = _MARGIN + _overhang(self.words.values())
        width = max(layout.width + 2 * left, 320.0)
        top = heading(canvas, graph.title, graph.subtitle, _MARGIN, width - 2 * _MARGIN)
        top += 8 if graph.title or graph.subtitle else -8
        bottom = top + 34 + layout.height + 12
        self._columns(canvas, left, top, bottom, width)
        with canvas.group(transform=f"translate({number(left)} {number(top + 34)})"):
            with canvas.group(class_="links", fill="none"):
                for ribbon in sorted(layout.ribbons, key=_prominence):
                    self._ribbon(canvas, ribbon)
            with canvas.group(class_="nodes"):
                for node in graph.nodes:
                    self._node(canvas, node)
        if not graph.nodes:
            canvas.text("no features", width / 2, top + 40, 13, fill="quiet", anchor="middle")
        height = (
            bottom + 8 + legend(canvas, layout, _MARGIN, bottom + 8, width - 2 * _MARGIN, self.detail) + 12
        )
        label = f"{visible(graph.title) or 'Lineage'}: {len(graph.nodes)} features"
        about = {"data_seed": graph.seed, "data_measure": graph.measure}
        return canvas.finish(width, height, label, class_="lineage", **about)

    def _columns(self, canvas: Canvas, left: float, top: float, bottom: float, width: float) -> None:
        """Draw a band behind every other column, and above each column its layer and number of features."""
        columns = self.layout.columns
        edges = [(before[0] + before[1] + after[0]) / 2 for before, after in pairwise(columns)]
        edges = [-left, *edges, width - left]
        many_sites = len({site for _, site in self.layout.graph.columns}) > 1
        for place, (layer, site) in enumerate(self.layout.graph.columns):
            x, end = left + edges[place], left + edges[place + 1]
            if place % 2 == 0:
                canvas.add("rect", x=x, y=top, width=end - x, height=bottom - top, fill="band")
            at = left + columns[place][0]
            head = f"layer {layer}" if self.detail != "bar" else f"{layer}"
            head += f" {site}" if many_sites else ""
            n = f"{len(self.layout.order[place])}"
            if self.detail == "bar":
                canvas.text(
                    head, at + columns[place][1] / 2, top + 19, 11, bold=True, fill="quiet", anchor="middle"
                )
            else:
                canvas.text(head, at, top + 19, 11, bold=True, fill="ink")
                canvas.text(n, at + text_width(head, 11, bold=True) + 7, top + 19, 11, fill="quiet")

    def _ribbon(self, canvas: Canvas, ribbon: Ribbon) -> None:
        link, graph = ribbon.link, self.layout.graph
        judged = graph.evidence is not None
        colour = evidence_colour(link.evidence) if judged else "e4"
        dashes = f"{number(max(2.0, ribbon.width * 0.7))} 2" if judged and link.is_doubtful else None
        values = [] if graph.measure is None else [f"{graph.measure} {link.value:.3g}"]
        if graph.evidence is not None:
            values.append(
                f"{graph.evidence} {'unknown' if link.evidence is None else f'{link.evidence:.3g}'}"
            )
        about = "\n".join(filter(None, [f"{link.src} → {link.dst}", " · ".join(values), link.note]))
        canvas.add(
            "path",
            canvas.title(about),
            d=_curve(ribbon.points),
            stroke=colour,
            stroke_width=ribbon.width,
            stroke_dasharray=dashes,
            stroke_opacity=".88",
            class_="link",
            data_src=link.src,
            data_dst=link.dst,
            data_value=f"{link.value:.6g}",
        )

    def _node(self, canvas: Canvas, node: Node) -> None:
        box, graph = self.layout.boxes[node.key], self.layout.graph
        with canvas.group(label=name(node), class_="node", data_key=node.key):
            if self.detail == "card":
                draw_card(canvas, node, box, graph)
            elif self.detail == "line":
                draw_line(canvas, node, box, graph)
            else:
                draw_bar(canvas, node, box, graph, self.words.get(node.key, ""))


def arrange(graph: LineageGraph, options: Options) -> Picture:
    """Choose the level of detail of a lineage and lay it out."""
    counts: dict[tuple[int, str], int] = {}
    for node in graph.nodes:
        counts[node.layer, node.site] = counts.get((node.layer, node.site), 0) + 1
    most = max(counts.values(), default=0)
    n_columns = max(1, len(graph.columns))
    pitch = None if options.width is None else (options.width - 2 * _MARGIN) / n_columns
    detail = options.detail
    if detail == "auto":
        narrow = pitch is not None and pitch < NARROWEST
        detail = "bar" if narrow or most > LINES else "line" if most > CARDS else "card"
    size = SIZES[detail]
    words: dict[str, str] = {}
    if detail == "bar":
        words = _words(graph, pitch or size.card_width + size.column_gap)
    if options.width is not None:
        size = _fitted(size, options.width - 2 * (_MARGIN + _overhang(words.values())), n_columns)
    layout = lay_out(graph, size, above=dict.fromkeys(words, _ABOVE), before=options.before)
    return Picture(layout, detail, options.theme, words)


def _overhang(words: Iterable[str]) -> float:
    """Return how far the widest word extends beyond the bar below it, on one side."""
    return max((text_width(word, WORD, bold=True) for word in words), default=0.0) / 2


def _fitted(size: Size, room: float, n_columns: int) -> Size:
    """Return sizes with which the columns fill the width `room`."""
    if n_columns == 1:
        return replace(size, card_width=min(room, size.card_width))
    if size.card_width < NARROWEST / 2:
        gap = (room - size.card_width * n_columns) / (n_columns - 1)
        return replace(size, column_gap=max(6.0, gap), stiff=True)
    width = room / (n_columns + (n_columns - 1) * size.column_gap / size.card_width)
    gap = (room - width * n_columns) / (n_columns - 1)
    return replace(size, card_width=max(30.0, width), column_gap=max(6.0, gap), stiff=True)


def _words(graph: LineageGraph, pitch: float) -> dict[str, str]:
    """Return the words above bars: of features whose word differs from that of their strongest parent."""
    word = {node.key: first_words(node) for node in graph.nodes}
    strongest: dict[str, tuple[float, str]] = {}
    for link in graph.links:
        if link.value > strongest.get(link.dst, (0.0, ""))[0]:
            strongest[link.dst] = link.value, link.src
    return {
        key: fit(text, pitch - 6, WORD)
        for key, text in word.items()
        if key not in strongest or word[strongest[key][1]].casefold() != text.casefold()
    }


def _prominence(ribbon: Ribbon) -> tuple[float, float]:
    """Return the sort key of a ribbon: strong links are drawn last, above weak ones."""
    return (ribbon.link.evidence or 0.0, ribbon.link.value)


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """Return the SVG path of a ribbon, horizontal where it meets a column."""
    x, y = points[0]
    parts = [f"M{number(x)} {number(y)}"]
    for place in range(0, len(points), 2):
        (x, y), (end, height) = points[place], points[place + 1]
        if place:
            parts.append(f"H{number(x)}")
        middle = number((x + end) / 2)
        parts.append(f"C{middle} {number(y)} {middle} {number(height)} {number(end)} {number(height)}")
    return "".join(parts)

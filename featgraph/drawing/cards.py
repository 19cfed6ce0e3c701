"""A feature as a card, a line or a bar: three levels of detail."""

from dataclasses import dataclass

from featgraph.drawing import marks
from featgraph.drawing.graph import Line, LineageGraph, Node
from featgraph.drawing.layout import Box, Size
from featgraph.drawing.svg import Canvas, number
from featgraph.drawing.text import fit, fit_words, text_width, visible, wrap

PAD = 8
"""Distance between the edge of a card and its text."""

FIRST = 12
"""Font size of a card's first line."""

SECOND = 11
"""Font size of the second line, and of both lines of a single sentence."""

WORD = 9
"""Font size of a word over a bar."""

BELOW = 13
"""Height under a card for its writers and its index."""

N_WRITERS = 5
"""Most writers marked under a card; the others are only counted."""


@dataclass(frozen=True)
class Written:
    """A line of text on a card, with its font."""

    text: str
    size: float
    bold: bool
    promoted: bool = False


def card_lines(node: Node, room: float) -> list[Written]:
    """Return the one or two lines of a card, cut to the width.

    room: width of the card without the padding.
    """
    lines = [line for line in node.lines if line]
    if not lines:
        return [Written(fit(visible(node.key), room, FIRST, bold=True), FIRST, bold=True)]
    if len(lines) == 1 and isinstance(lines[0], str):
        sentence = visible(lines[0])
        if text_width(sentence, FIRST, bold=True) <= room:
            return [Written(sentence, FIRST, bold=True)]
        return [Written(part, SECOND, bold=True) for part in wrap(sentence, room, SECOND, 2, bold=True)]
    first = Written(_shown(lines[0], room, FIRST, bold=True), FIRST, bold=True)
    if len(lines) == 1:
        return [first]
    arrow = "→ "
    promoted = _shown(lines[1], room - text_width(arrow, SECOND), SECOND, bold=False)
    return [first, Written(arrow + promoted, SECOND, bold=False, promoted=True)] if promoted else [first]


def first_words(node: Node) -> str:
    """Return a short name of a feature: its first word, its sentence, or its key."""
    line = next((line for line in node.lines if line), node.key)
    return visible(line if isinstance(line, str) else line[0])


def name(node: Node) -> str:
    """Return the full description of a feature, for its tooltip; the first line is the text of its card."""
    lines = [line if isinstance(line, str) else ", ".join(line) for line in node.lines if line]
    shown = [("→ " if number == 1 else "") + visible(line) for number, line in enumerate(lines)]
    about = [visible(node.key)]
    if node.born:
        about.append(f"born here: {node.born}")
    if node.dies:
        about.append("dies here")
    if node.n_parents_elsewhere:
        about.append(f"parents not drawn: {node.n_parents_elsewhere}")
    if node.n_children_elsewhere:
        about.append(f"children not drawn: {node.n_children_elsewhere}")
    return "\n".join([*shown, " · ".join(about), *([node.note] if node.note else [])])


def draw_card(canvas: Canvas, node: Node, box: Box, graph: LineageGraph) -> None:
    """Draw a feature as a card: two lines of text, its marks, and below them its writers and index."""
    _outline(canvas, node, box, graph, radius=6)
    middle = box.y + box.height / 2
    lines = card_lines(node, box.width - 2 * PAD)
    baselines = (middle - 3.4, middle + 11.4) if len(lines) == 2 else (middle + 4.2,)
    for line, baseline in zip(lines, baselines, strict=False):  # no text if not even one letter fits
        colour = "promotes" if line.promoted else "ink"
        canvas.text(line.text, box.x + PAD, baseline, line.size, fill=colour, bold=line.bold, exact=True)
    _marks(canvas, node, box)
    _below(canvas, node, box)


def draw_line(canvas: Canvas, node: Node, box: Box, graph: LineageGraph) -> None:
    """Draw a feature as a narrow card with one line of text."""
    _outline(canvas, node, box, graph, radius=4)
    line = next((line for line in node.lines if line), node.key)
    middle = box.y + box.height / 2
    canvas.text(
        _shown(line, box.width - 2 * PAD, SECOND, bold=False), box.x + PAD, middle + 3.9, SECOND, exact=True
    )
    if node.n_parents_elsewhere:
        canvas.add("path", d=f"M{number(box.x + 6)} {number(middle - 2.6)}v5.2l-3.4 -2.6z", fill="quiet")
    if node.n_children_elsewhere:
        canvas.add("path", d=f"M{number(box.right - 6)} {number(middle - 2.6)}v5.2l3.4 -2.6z", fill="quiet")
    _marks(canvas, node, box)


def draw_bar(canvas: Canvas, node: Node, box: Box, graph: LineageGraph, word: str = "") -> None:
    """Draw a feature as a bar, with a word above."""
    is_seed = node.key == graph.seed
    canvas.add(
        "rect",
        x=box.x,
        y=box.y,
        width=box.width,
        height=box.height,
        rx=2,
        fill="seed" if is_seed else node.part or ("death" if node.dies else "persists"),
        class_="box",
    )
    if node.born:
        marks.birth(canvas, box.x - 1, box.y + box.height / 2, node.born)
    canvas.text(
        word,
        box.x + box.width / 2,
        box.y - 3.5,
        WORD,
        anchor="middle",
        fill="seed" if is_seed else "ink",
        bold=is_seed,
        halo="paper",
    )


SIZES = {
    "card": Size(card_width=132, card_height=38, below=BELOW, gap=9, column_gap=48, ribbon=9, stack=130),
    "line": Size(card_width=128, card_height=18, below=0, gap=5, column_gap=44, ribbon=6, stack=60),
    "bar": Size(card_width=7, card_height=7, below=0, gap=6, column_gap=40, ribbon=6, stack=40),
}
"""Level of detail -> sizes of cards and ribbons."""


def _outline(canvas: Canvas, node: Node, box: Box, graph: LineageGraph, radius: float) -> None:
    is_seed = node.key == graph.seed
    canvas.add(
        "rect",
        x=box.x,
        y=box.y,
        width=box.width,
        height=box.height,
        rx=radius,
        fill="seed-card" if is_seed else "card",
        stroke="seed" if is_seed else node.part or "edge",
        stroke_width="2" if is_seed else "1.6" if node.part else "1",
        stroke_dasharray="4 2.5" if node.part == "second" else None,
        class_="box",
    )


def _marks(canvas: Canvas, node: Node, box: Box) -> None:
    if node.dies:
        marks.death(canvas, box.right, box.y, box.height)
    if node.born:
        marks.birth(canvas, box.x, box.y + box.height / 2, node.born)


def _below(canvas: Canvas, node: Node, box: Box) -> None:
    """Draw the row under a card: undrawn parents, writers, index, undrawn children."""
    y = box.bottom + 7
    x, right = box.x + 2, box.right - 2
    if node.n_parents_elsewhere:
        x += marks.parents_elsewhere(canvas, x, y, node.n_parents_elsewhere) + 6
    if node.n_children_elsewhere:
        right -= marks.children_elsewhere(canvas, right, y, node.n_children_elsewhere) + 6
    index = fit(visible(node.key.rsplit("/", 1)[-1]), (right - x) / 2, marks.SMALL)
    canvas.text(index, right, y + 3, marks.SMALL, fill="quiet", anchor="end")
    room = right - x - text_width(index, marks.SMALL) - 6
    n_writers = len(node.writers) if node.n_writers is None else node.n_writers
    step = 2 * marks.LARGEST + 1.2
    more_room = text_width(f"+{n_writers}", marks.SMALL) + 4
    n_marks = max(0, min(N_WRITERS, len(node.writers), int((room - more_room) / step)))
    for writer in node.writers[:n_marks]:
        marks.writer(canvas, x + marks.LARGEST, y, writer.site, writer.value)
        x += step
    if n_writers > n_marks and more_room <= room:
        canvas.text(f"+{n_writers - n_marks}", x + 2, y + 3, marks.SMALL, fill="quiet")


def _shown(line: Line, room: float, size: float, *, bold: bool) -> str:
    if isinstance(line, str):
        return fit(visible(line), room, size, bold=bold)
    return fit_words(map(visible, line), room, size, bold=bold)

"""Draws the features active on a prompt: a grid of tokens and layers, the strongest features in each cell."""

from collections.abc import Sequence
from dataclasses import dataclass

from featgraph.drawing.colours import SERIES, Theme
from featgraph.drawing.svg import Canvas, heading
from featgraph.drawing.text import fit, text_width, visible


@dataclass(frozen=True)
class Activation:
    """A feature that is active on a token."""

    token: int
    """Index of the token in `PromptLens.tokens`."""
    layer: int
    key: str
    word: str
    """Short name of the feature."""
    share: float
    """Activation divided by the feature's largest activation on the graph's text; it can exceed 1 on other
    text."""
    lineage: int | None = None
    """Index of its lineage in `PromptLens.lineages`."""


@dataclass(frozen=True)
class PromptLens:
    """The content of a prompt picture: tokens, layers, activations and lineages.

    Raises ValueError: an activation has a token, layer or lineage that the picture does not have.
    """

    tokens: Sequence[str]
    layers: Sequence[int]
    activations: Sequence[Activation]
    lineages: Sequence[tuple[str, str]] = ()
    """(name, label), strongest first; the first eight have a colour each."""
    title: str = ""
    subtitle: str = ""

    def __post_init__(self) -> None:
        for one in self.activations:
            if not 0 <= one.token < len(self.tokens) or one.layer not in self.layers:
                raise ValueError(
                    f"{one.key!r} is active on token {one.token}, layer {one.layer}, not in the picture"
                )
            if one.lineage is not None and not 0 <= one.lineage < len(self.lineages):
                raise ValueError(f"{one.key!r} is of lineage {one.lineage}, not in the picture")


PER_CELL = 3
"""Most features drawn per token and layer."""

_MARGIN = 20.0
_HEAD = 54
"""Width of the layer names."""
_CELL = 84
_BAR = 14
_GAP = 3
_ROW = PER_CELL * _BAR + 5


def draw_prompt_lens(lens: PromptLens, *, width: float = 1200.0, theme: Theme = "auto") -> str:
    """Return, as SVG, the features active on a prompt; a long prompt is broken into several rows of
    tokens."""
    canvas = Canvas(theme)
    n_across = max(1, int((width - 2 * _MARGIN - _HEAD) / (_CELL + _GAP)))
    n_rows = max(1, -(-len(lens.tokens) // n_across))
    n_across = max(-(-len(lens.tokens) // n_rows), min(5, n_across))
    width = 2 * _MARGIN + _HEAD + n_across * (_CELL + _GAP)
    room = width - 2 * _MARGIN
    y = heading(canvas, lens.title, lens.subtitle, _MARGIN, room) + 10
    cells: dict[tuple[int, int], list[Activation]] = {}
    for one in lens.activations:
        cells.setdefault((one.token, one.layer), []).append(one)
    layers = sorted(set(lens.layers), reverse=True)
    for first in range(0, max(1, len(lens.tokens)), n_across):
        y = _row(canvas, lens, cells, layers, range(first, min(first + n_across, len(lens.tokens))), y) + 16
    y = _legend(canvas, lens, y, room)
    return canvas.finish(width, y + 12, visible(lens.title) or "Features active on a prompt", class_="lens")


def _row(
    canvas: Canvas,
    lens: PromptLens,
    cells: dict[tuple[int, int], list[Activation]],
    layers: Sequence[int],
    tokens: range,
    y: float,
) -> float:
    """Draw one row of tokens with all layers; return the y of its lower edge."""
    for number, layer in enumerate(layers):
        top = y + number * (_ROW + _GAP)
        canvas.text(f"layer {layer}", _MARGIN, top + _ROW / 2 + 4, 11, fill="quiet", bold=True)
        for column, token in enumerate(tokens):
            x = _MARGIN + _HEAD + column * (_CELL + _GAP)
            canvas.add("rect", x=x, y=top, width=_CELL, height=_ROW, rx=4, fill="band")
            for place, one in enumerate(strongest(cells.get((token, layer), []))):
                _activation(canvas, lens, one, x + 2, top + 3 + place * _BAR)
    bottom = y + len(layers) * (_ROW + _GAP)
    for column, token in enumerate(tokens):
        x = _MARGIN + _HEAD + column * (_CELL + _GAP) + _CELL / 2
        shown = lens.tokens[token]
        text = visible(shown.strip(" ")) or f"'{shown}'"
        canvas.text(
            fit(text, _CELL, 13, bold=True), x, bottom + 16, 13, bold=True, anchor="middle", exact=True
        )
    return bottom + 22


def strongest(activations: Sequence[Activation]) -> list[Activation]:
    """Return the `PER_CELL` strongest features of a cell, those of lineages first."""
    kept = sorted(activations, key=lambda one: (-one.share, one.key))[:PER_CELL]
    return sorted(kept, key=lambda one: (one.lineage is None, one.lineage or 0, -one.share, one.key))


def _activation(canvas: Canvas, lens: PromptLens, one: Activation, x: float, y: float) -> None:
    """Draw one feature: a bar as long as its share, its word, and the name of its lineage."""
    room = _CELL - 4
    long = room * min(1.0, max(0.0, one.share))
    lineage = one.lineage if one.lineage is not None and one.lineage < SERIES else None
    name = fit(visible(lens.lineages[lineage][0]), 18, 9, bold=True) if lineage is not None else ""
    label = f"{visible(one.word)}\n{visible(one.key)} · {one.share:.2f} of its maximum"
    if one.lineage is not None:
        label += (
            f"\nlineage {visible(lens.lineages[one.lineage][0])}: {visible(lens.lineages[one.lineage][1])}"
        )
    with canvas.group(label=label, class_="active", data_key=one.key, data_lineage=one.lineage):
        colour = "bar" if lineage is None else f"s{lineage}"
        opacity = None if lineage is None else ".28"
        canvas.add("rect", x=x, y=y, width=long, height=_BAR - 2, rx=2, fill=colour, fill_opacity=opacity)
        if lineage is not None:
            canvas.add("rect", x=x, y=y, width=min(2.5, long), height=_BAR - 2, rx=1, fill=colour)
            canvas.text(name, x + room - 2, y + 9.2, 9, bold=True, anchor="end")
        text_room = room - 8 - (text_width(name, 9, bold=True) + 3 if name else 0)
        canvas.text(fit(visible(one.word), text_room, 10), x + 5, y + 9.6, 10, exact=True)


def _legend(canvas: Canvas, lens: PromptLens, y: float, room: float) -> float:
    """Draw the names of the coloured lineages in columns; return the y of the lower edge."""
    used = sorted(
        {one.lineage for one in lens.activations if one.lineage is not None and one.lineage < SERIES}
    )
    if not used:
        return y
    canvas.text("lineages", _MARGIN, y + 10, 11, fill="quiet", bold=True)
    n_across = max(1, int(room / 290))
    for place, lineage in enumerate(used):
        x = _MARGIN + (place % n_across) * 290
        line = y + 20 + (place // n_across) * 19
        name, label = map(visible, lens.lineages[lineage])
        with canvas.group(class_="lineage-name", data_lineage=lineage):
            canvas.add("rect", x=x, y=line, width=22, height=13, rx=3, fill=f"s{lineage}", fill_opacity=".28")
            canvas.add("rect", x=x, y=line, width=2.5, height=13, rx=1, fill=f"s{lineage}")
            shown = fit(name, 18, 10, bold=True)
            canvas.text(shown, x + 12, line + 10, 10, bold=True, anchor="middle")
            canvas.text(fit(label, 250, 11), x + 29, line + 10.4, 11)
    return y + 20 + -(-len(used) // n_across) * 19

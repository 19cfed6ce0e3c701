"""An SVG as text: elements with all their style in attributes, so that every program shows the same.

Colours are given by name (`colours.py`). Each becomes an attribute and a class of that name, so that a style
sheet can turn a light picture dark and needs nothing else.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from featgraph.drawing.colours import COLOURS, Theme, dark_rules
from featgraph.drawing.text import FONT, fit, is_measured, text_width, visible

Value = str | float | None
"""Value of an attribute; None leaves the attribute out."""

_PAINTS = {"fill": "fill", "stroke": "stroke", "stop_color": "stop"}
_TEXT_ESCAPES = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;"}
_ATTRIBUTE_ESCAPES = _TEXT_ESCAPES | {ord('"'): "&quot;"}


class Canvas:
    """An SVG document, written element by element."""

    def __init__(self, theme: Theme = "auto") -> None:
        self.theme: Theme = theme
        self._parts: list[str] = []
        self._defs: list[str] = []
        self._classes: set[str] = set()

    def add(self, tag: str, content: str = "", **attributes: Value) -> None:
        """Append an element; content is SVG, already escaped. `stroke_width` is written stroke-width."""
        self._parts.append(self.element(tag, content, **attributes))

    def define(self, tag: str, content: str = "", **attributes: Value) -> None:
        """Append an element that others refer to by its id."""
        self._defs.append(self.element(tag, content, **attributes))

    def element(self, tag: str, content: str = "", **attributes: Value) -> str:
        """Return an element as text."""
        start = self._start(tag, attributes)
        return f"{start}>{content}</{tag}>" if content else f"{start}/>"

    @contextmanager
    def group(self, *, label: str | None = None, **attributes: Value) -> Iterator[None]:
        """Put the elements added inside the `with` block into a group; label: its tooltip."""
        self._parts.append(self._start("g", attributes) + ">")
        if label:
            self._parts.append(self.title(label))
        yield
        self._parts.append("</g>")

    def text(
        self,
        text: str,
        x: float,
        y: float,
        size: float,
        *,
        fill: str = "ink",
        bold: bool = False,
        anchor: str | None = None,
        exact: bool = False,
        halo: str | None = None,
        **attributes: Value,
    ) -> None:
        """Append visible text; y is its baseline.

        exact: force the width that the tables give, whatever the font. halo: colour of an outline that keeps
        the letters legible on lines.
        """
        if not text:
            return
        if halo:
            attributes |= {
                "stroke": halo,
                "stroke_width": 3,
                "stroke_linejoin": "round",
                "paint_order": "stroke",
            }
        self.add(
            "text",
            escaped(text),
            x=x,
            y=y,
            font_size=size,
            font_weight="bold" if bold else None,
            text_anchor=anchor,
            fill=fill,
            textLength=text_width(text, size, bold=bold) if exact and is_measured(text) else None,
            **attributes,
        )

    def title(self, text: str) -> str:
        """Return a title element: browsers show it as a tooltip, and screen readers read it."""
        shown = "\n".join(visible(line) for line in text.split("\n"))
        return f"<title>{escaped(shown)}</title>"

    def finish(self, width: float, height: float, name: str, **attributes: Value) -> str:
        """Return the whole SVG with the background of its theme; name: for screen readers."""
        paper = self.element("rect", width=width, height=height, fill="paper")
        css = dark_rules(list(self._classes)) if self.theme == "auto" else ""
        style = f"<style>@media (prefers-color-scheme:dark){{{css}}}</style>" if css else ""
        defs = f"<defs>{''.join(self._defs)}</defs>" if self._defs else ""
        start = self._start(
            "svg",
            {
                "xmlns": "http://www.w3.org/2000/svg",
                "width": math.ceil(width),
                "height": math.ceil(height),
                "viewBox": f"0 0 {math.ceil(width)} {math.ceil(height)}",
                "font_family": FONT,
                "role": "group",
                "aria_label": name,
                **attributes,
            },
        )
        return f"{start}>{style}{defs}{paper}{''.join(self._parts)}</svg>\n"

    def _start(self, tag: str, attributes: dict[str, Value]) -> str:
        written = [f"<{tag}"]
        classes = []
        for name, value in attributes.items():
            if value is None:
                continue
            if name in _PAINTS and value in COLOURS:
                colour = COLOURS[str(value)]
                classes.append(f"{_PAINTS[name]}-{value}")
                value = colour.dark if self.theme == "dark" else colour.light
            elif name == "class_":
                classes.insert(0, str(value))
                continue
            text = number(value) if isinstance(value, int | float) else escaped(visible(value), quoted=True)
            written.append(f' {name if name in _CAMEL else name.replace("_", "-")}="{text}"')
        if classes:
            self._classes.update(name for name in classes if name.split("-", 1)[0] in _PAINTS.values())
            written.append(f' class="{" ".join(classes)}"')
        return "".join(written)


_CAMEL = {"viewBox", "textLength", "gradientUnits"}


def heading(canvas: Canvas, title: str, subtitle: str, x: float, room: float) -> float:
    """Write title and subtitle, starting at x; return the y at which the picture can begin."""
    y = 8.0
    if title:
        canvas.text(fit(visible(title), room, 16, bold=True), x, y + 20, 16, bold=True)
        y += 28
    if subtitle:
        canvas.text(fit(visible(subtitle), room, 12), x, y + 14, 12, fill="quiet")
        y += 20
    return y


def number(value: float) -> str:
    """Return a number as text, rounded to a tenth.

    >>> number(3.0), number(-0.01), number(2.25), number(12)
    ('3', '0', '2.2', '12')
    """
    text = f"{value:.1f}"
    if text.endswith(".0"):
        text = text[:-2]
    return "0" if text == "-0" else text


def escaped(text: str, *, quoted: bool = False) -> str:
    """Return text as the content of an element, or of an attribute in double quotes."""
    return text.translate(_ATTRIBUTE_ESCAPES if quoted else _TEXT_ESCAPES)

"""The marks of a lineage picture, each with its own shape: writers, births, deaths, undrawn parents and
children."""

from featgraph.drawing.graph import Origin, Site
from featgraph.drawing.svg import Canvas, number
from featgraph.drawing.text import text_width

SMALL = 8.5
"""Font size of numbers beside marks."""

LARGEST = 4.2
"""Half the size of a writer's mark when its value is 1."""

SMALLEST = 1.8
"""Half the size of a writer's mark when its value is 0."""


def writer(canvas: Canvas, x: float, y: float, site: Site, value: float) -> None:
    """Draw a writer around a point, a triangle for mlp and a disc for att, larger for a larger value."""
    half = SMALLEST + (LARGEST - SMALLEST) * min(1.0, max(0.0, value))
    if site == "mlp":
        canvas.add("path", d=_triangle(x, y, half), fill="mlp")
    else:
        canvas.add("circle", cx=x, cy=y, r=half * 0.86, fill="att")


def birth(canvas: Canvas, x: float, y: float, origin: Origin) -> None:
    """Draw a birth around a point: a triangle (mlp), disc (att), diamond (both) or ring (unexplained)."""
    if origin == "unexplained":
        canvas.add("circle", cx=x, cy=y, r=3.4, fill="paper", stroke="unexplained", stroke_width="1.6")
        return
    rim = {"stroke": "paper", "stroke_width": "1.4", "stroke_linejoin": "round", "paint_order": "stroke"}
    if origin == "mlp":
        canvas.add("path", d=_triangle(x, y, 5), fill="mlp", **rim)
    elif origin == "att":
        canvas.add("circle", cx=x, cy=y, r=4.2, fill="att", **rim)
    else:
        canvas.add("path", d=f"M{number(x)} {number(y - 5.4)}v10.8l-5.4 -5.4z", fill="mlp", **rim)
        canvas.add("path", d=f"M{number(x)} {number(y - 5.4)}v10.8l5.4 -5.4z", fill="att", **rim)


def death(canvas: Canvas, right: float, top: float, height: float) -> None:
    """Draw a death: a bar along the right edge of a card."""
    canvas.add("rect", x=right - 1.8, y=top + 2, width=3.6, height=height - 4, rx=1.8, fill="death")


def parents_elsewhere(canvas: Canvas, x: float, y: float, n: int) -> float:
    """Draw the number of undrawn parents to the right of a point; return its width."""
    canvas.add("path", d=f"M{number(x + 4)} {number(y - 3)}v6l-4 -3z", fill="quiet")
    canvas.text(f"{n}", x + 6, y + 3, SMALL, fill="quiet")
    return 6 + text_width(f"{n}", SMALL)


def children_elsewhere(canvas: Canvas, x: float, y: float, n: int) -> float:
    """Draw the number of undrawn children to the left of a point; return its width."""
    canvas.add("path", d=f"M{number(x - 4)} {number(y - 3)}v6l4 -3z", fill="quiet")
    canvas.text(f"{n}", x - 6, y + 3, SMALL, fill="quiet", anchor="end")
    return 6 + text_width(f"{n}", SMALL)


def _triangle(x: float, y: float, half: float) -> str:
    return f"M{number(x)} {number(y - half)}l{number(half)} {number(half * 1.8)}h{number(-2 * half)}z"

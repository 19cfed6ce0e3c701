"""Random layered graphs with hostile words, and what an SVG says, read back."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from hypothesis import settings
from hypothesis import strategies as st

from featgraph.drawing.graph import SITES, LineageGraph, Link, Node, Writer
from helpers.examples import examples

SVG = "{http://www.w3.org/2000/svg}"

quick = settings(max_examples=examples(60), deadline=None)
"""A picture takes a few milliseconds, or many on a busy machine."""

HOSTILE = (
    "<script>alert(1)</script>",
    "]]></text>",
    'a"b&c;',
    "\x00\x1b[31m\x85",
    "\u202egnihtemos",
    "\ud800 and \udfff",
    "e" + "\u0301" * 40,
    "\ufdfd",
    "日本語のトークン",
    "👩‍👩‍👧‍👦",
    "a" * 400,
    "   ",
    "",
)
"""Labels of strangers."""

words = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=20), st.text(st.characters(), max_size=6))


@st.composite
def graphs(draw: st.DrawFn, *, most: int = 5, hostile: bool = True) -> LineageGraph:
    """Draw up to five columns of up to five features, some with links over several columns."""
    sites = draw(st.sampled_from([("res",), SITES]))
    columns = draw(st.lists(st.integers(1, most), max_size=5))
    text = words if hostile else st.sampled_from(["looked", "felt", "sad"])
    nodes: list[Node] = []
    for number, n in enumerate(columns):
        layer, site = divmod(number, len(sites))
        for index in range(n):
            line = st.one_of(text, st.lists(text, max_size=4).map(tuple))
            nodes.append(
                Node(
                    f"{layer}/{sites[site]}/{index}",
                    layer,
                    sites[site],
                    tuple(draw(st.lists(line, max_size=2))),
                    born=draw(st.sampled_from([None, "mlp", "att", "mlp+att", "unexplained"])),
                    dies=draw(st.booleans()),
                    writers=tuple(
                        Writer(f"0/mlp/{rank}", "mlp", 0.5) for rank in range(draw(st.integers(0, 7)))
                    ),
                    n_parents_elsewhere=draw(st.sampled_from([0, 0, 3, 123_456])),
                    n_children_elsewhere=draw(st.sampled_from([0, 0, 7])),
                )
            )
    place = {node.key: (node.layer, SITES.index(node.site)) for node in nodes}
    pairs = [(one.key, two.key) for one in nodes for two in nodes if place[one.key] < place[two.key]]
    chosen = draw(st.lists(st.sampled_from(pairs), max_size=12, unique=True)) if pairs else []
    values = st.floats(0.01, 1.0)
    links = [Link(src, dst, draw(values), draw(st.one_of(st.none(), values))) for src, dst in chosen]
    seed = draw(st.sampled_from([None, *(node.key for node in nodes)]))
    return LineageGraph(nodes, links, seed, title=draw(text), n_left_out=draw(st.integers(0, 3)))


@dataclass(frozen=True)
class Words:
    """A text element, where it was put."""

    text: str
    x: float
    y: float
    size: float
    bold: bool
    anchor: str


def parsed(svg: str) -> ElementTree.Element:
    """Parse an SVG, as bytes: what cannot be encoded is a fault too."""
    return ElementTree.fromstring(svg.encode("utf-8"))


def with_class(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    """Return the elements of a class."""
    return [element for element in root.iter() if name in element.get("class", "").split()]


def texts(element: ElementTree.Element) -> Iterator[Words]:
    """Return the text inside an element."""
    for one in element.iter(f"{SVG}text"):
        yield Words(
            one.text or "",
            float(one.get("x", "0")),
            float(one.get("y", "0")),
            float(one.get("font-size", "0")),
            one.get("font-weight") == "bold",
            one.get("text-anchor", "start"),
        )


def box(node: ElementTree.Element) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of a card."""
    (rect,) = with_class(node, "box")
    x, y, width, height = (float(rect.get(name, "nan")) for name in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def numbers(path: str) -> list[float]:
    """Return the numbers of a path, in order."""
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", path)]

"""Lineages as pictures: nothing overlaps, everything is there, text fits, the same bytes every time."""

from itertools import combinations, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featgraph.drawing import LineageGraph, Link, Node, Options, Writer, arrange, draw_lineage
from featgraph.drawing.colours import Theme
from featgraph.drawing.text import text_width, visible
from helpers.pictures import SVG, box, graphs, numbers, parsed, quick, texts, with_class
from helpers.pinned import check_pinned

PINNED = Path(__file__).with_name("lineage.svg")
THEMES: tuple[Theme, ...] = ("light", "dark", "auto")
details = st.sampled_from(["card", "line", "bar", "auto"])
options = st.builds(
    Options,
    detail=details,
    width=st.sampled_from([None, None, 300.0, 900.0]),
    theme=st.sampled_from(THEMES),
)


def looked() -> LineageGraph:
    """A lineage of every mark there is."""
    nodes = [
        Node("0/res/7", 0, lines=(("looked", "Looked", "look"), ("at", "around")), n_children_elsewhere=2),
        Node(
            "1/res/3",
            1,
            lines=(("looked", "felt"), ("sad", "scared")),
            writers=(Writer("1/mlp/4", "mlp", 0.6),),
        ),
        Node("1/res/9", 1, lines=("words about looking for something lost",), born="mlp", dies=True),
        Node("2/res/1", 2, lines=(("feel",),), born="att", n_parents_elsewhere=3, n_writers=12),
        Node("2/res/5", 2, born="mlp+att"),
        Node(
            "3/res/0",
            3,
            lines=(("very", "so"), ("happy",)),
            born="unexplained",
            writers=(Writer("3/att/1", "att", 0.3),),
        ),
    ]
    links = [
        Link("0/res/7", "1/res/3", 0.8, 0.9),
        Link("0/res/7", "1/res/9", 0.5, 0.05),
        Link("1/res/3", "2/res/1", 0.6, None),
        Link("1/res/3", "2/res/5", 0.7, 0.4),
        Link("0/res/7", "3/res/0", 0.55, 0.5),
        Link("2/res/5", "3/res/0", 0.9, 1.0),
    ]
    return LineageGraph(nodes, links, "1/res/3", "Lineage of 1/res/3", "a test · cosine ≥ 0.5", n_left_out=4)


@quick
@given(graphs(), options)
def test_no_two_cards_overlap_and_all_is_drawn(graph: LineageGraph, chosen: Options) -> None:
    root = parsed(draw_lineage(graph, chosen))
    nodes = with_class(root, "node")
    assert [node.get("data-key") for node in nodes] == [node.key for node in graph.nodes]
    for (left, top, right, bottom), (left2, top2, right2, bottom2) in combinations(map(box, nodes), 2):
        assert right <= left2 or right2 <= left or bottom <= top2 or bottom2 <= top
    drawn = {(link.get("data-src"), link.get("data-dst")) for link in with_class(root, "link")}
    assert drawn == {(link.src, link.dst) for link in graph.links}
    width, height = float(root.get("width", "0")), float(root.get("height", "0"))
    for left, top, right, bottom in map(box, nodes):
        assert left >= -1e-6
        assert top >= -1e-6
        assert right <= width
        assert bottom <= height


@pytest.mark.thorough
@quick
@given(graphs(), st.sampled_from(["card", "line"]))
def test_text_fits_its_card(graph: LineageGraph, detail: str) -> None:
    root = parsed(draw_lineage(graph, Options(detail=detail)))  # type: ignore[arg-type]
    for node in with_class(root, "node"):
        left, top, right, bottom = box(node)
        ends = []
        for words in texts(node):
            wide = text_width(words.text, words.size, bold=words.bold)
            start = words.x - (wide if words.anchor == "end" else 0)
            assert start >= left - 0.1
            assert start + wide <= right + 0.1
            if words.y < bottom:
                assert top < words.y - words.size * 0.7
            else:
                ends.append((start, start + wide))
        for (_, before), (after, _) in pairwise(sorted(ends)):
            assert before <= after


@quick
@given(graphs(hostile=False))
def test_ribbons_at_a_card_lie_side_by_side_within_it(graph: LineageGraph) -> None:
    layout = arrange(graph, Options(detail="card")).layout
    sides: dict[tuple[str, bool], list[tuple[float, float, float]]] = {}
    for ribbon in layout.ribbons:
        for key, (x, y), other, leaves in (
            (ribbon.link.src, ribbon.points[0], ribbon.points[1], True),
            (ribbon.link.dst, ribbon.points[-1], ribbon.points[-2], False),
        ):
            card = layout.boxes[key]
            assert x == (card.right if leaves else card.x)
            assert card.y <= y - ribbon.width / 2
            assert y + ribbon.width / 2 <= card.bottom
            sides.setdefault((key, leaves), []).append((y, ribbon.width, other[1]))
    for ribbons in sides.values():
        for (y, width, aim), (y2, width2, aim2) in pairwise(sorted(ribbons)):
            assert y + width / 2 < y2 - width2 / 2
            assert aim <= aim2 + 1e-6


@quick
@given(graphs(hostile=False))
def test_a_long_link_passes_beside_the_cards_between(graph: LineageGraph) -> None:
    layout = arrange(graph, Options(detail="card")).layout
    for ribbon in layout.ribbons:
        for (start, y), (end, same) in pairwise(ribbon.points[1:-1]):
            if start == end:
                continue
            for card in layout.boxes.values():
                if start <= card.x <= end and y == same:
                    assert y + ribbon.width / 2 <= card.y or y - ribbon.width / 2 >= card.bottom


@quick
@given(graphs(), options)
def test_the_same_input_gives_the_same_bytes(graph: LineageGraph, chosen: Options) -> None:
    assert draw_lineage(graph, chosen) == draw_lineage(graph, chosen)


def test_the_picture_is_the_one_looked_at(update_texts: bool) -> None:
    """And so it is in every process, whatever its hash seed."""
    check_pinned(PINNED, draw_lineage(looked()), update=update_texts)


def test_a_link_with_little_evidence_is_dashed_and_the_rest_is_not() -> None:
    root = parsed(draw_lineage(looked()))
    dashed = {link.get("data-dst") for link in with_class(root, "link") if link.get("stroke-dasharray")}
    assert dashed == {"1/res/9", "2/res/1"}


def test_without_evidence_no_link_is_doubtful() -> None:
    graph = looked()
    plain = LineageGraph(graph.nodes, graph.links, evidence=None)
    root = parsed(draw_lineage(plain))
    assert not any(link.get("stroke-dasharray") for link in with_class(root, "link"))
    assert "doubtful" not in "".join(words.text for words in texts(root))


def test_ribbons_are_as_wide_as_their_values() -> None:
    layout = arrange(looked(), Options()).layout
    ratios = {round(ribbon.width / ribbon.link.value, 9) for ribbon in layout.ribbons}
    assert len(ratios) == 1
    assert max(ribbon.width for ribbon in layout.ribbons) == 9


def test_a_hub_makes_all_ribbons_narrow() -> None:
    nodes = [Node("0/res/0", 0), *(Node(f"1/res/{number}", 1) for number in range(60))]
    links = [Link("0/res/0", f"1/res/{number}", 0.5) for number in range(60)]
    layout = arrange(LineageGraph(nodes, links), Options(detail="card")).layout
    assert layout.boxes["0/res/0"].height <= 140
    assert layout.crossings == 0


def test_the_legend_has_only_the_marks_that_occur() -> None:
    told = " ".join(words.text for words in texts(parsed(draw_lineage(looked()))))
    entries = (
        "cosine, pearson, doubtful, seed, born of mlp, born of att, of both, unexplained, dies here, "
        "mlp writer, att writer, children not drawn, 4 more not drawn"
    )
    for entry in entries.split(", "):
        assert entry in told
    bare = LineageGraph([Node("0/res/0", 0, lines=(("a",),))], [])
    told = " ".join(words.text for words in texts(parsed(draw_lineage(bare))))
    assert told.split() == ["layer", "0", "1", "a", "0"]


def test_the_detail_follows_the_room() -> None:
    def many(n: int) -> LineageGraph:
        return LineageGraph([Node(f"0/res/{number}", 0) for number in range(n)], [])

    assert [arrange(many(n), Options()).detail for n in (24, 25, 60, 61)] == ["card", "line", "line", "bar"]
    deep = LineageGraph([Node(f"{layer}/res/0", layer) for layer in range(12)], [])
    assert arrange(deep, Options(width=900)).detail == "bar"
    assert arrange(deep, Options(width=1600)).detail == "card"
    assert arrange(deep, Options(width=900, detail="line")).detail == "line"


def test_a_picture_of_a_given_width_has_it() -> None:
    deep = LineageGraph([Node(f"{layer}/res/0", layer) for layer in range(8)], [])
    for width in (500.0, 1000.0, 1400.0):
        assert abs(float(parsed(draw_lineage(deep, Options(width=width))).get("width", "0")) - width) <= 1


def test_a_word_stands_over_a_bar_only_where_it_changes() -> None:
    nodes = [
        Node(f"{layer}/res/0", layer, lines=((word,),)) for layer, word in enumerate(["a", "A", "b", "b"])
    ]
    links = [Link(f"{layer}/res/0", f"{layer + 1}/res/0", 0.5) for layer in range(3)]
    root = parsed(draw_lineage(LineageGraph(nodes, links), Options(detail="bar")))
    assert [[words.text for words in texts(node)] for node in with_class(root, "node")] == [
        ["a"],
        [],
        ["b"],
        [],
    ]


def test_links_over_several_columns_and_sites() -> None:
    nodes = [Node("0/att/0", 0, "att"), Node("0/mlp/0", 0, "mlp"), Node("0/res/0", 0), Node("4/res/0", 4)]
    links = [
        Link("0/att/0", "0/res/0", 0.5),
        Link("0/mlp/0", "0/res/0", 0.5),
        Link("0/res/0", "4/res/0", 0.5),
    ]
    root = parsed(draw_lineage(LineageGraph(nodes, links)))
    heads = [words.text for words in texts(root) if words.text.startswith("layer")]
    assert heads == ["layer 0 att", "layer 0 mlp", "layer 0 res", "layer 4 res"]
    (bent,) = [link for link in with_class(root, "link") if link.get("data-src") == "0/att/0"]
    assert bent.get("d", "").count("C") == 2


def test_a_name_begins_with_the_visible_words() -> None:
    root = parsed(draw_lineage(looked()))
    titles = {node.get("data-key"): node.findtext(f"{SVG}title") or "" for node in with_class(root, "node")}
    assert titles["1/res/3"] == "looked, felt\n→ sad, scared\n1/res/3"
    assert "parents not drawn: 3" in titles["2/res/1"]


def test_an_earlier_order_is_kept() -> None:
    graph = looked()
    first = arrange(graph, Options())
    turned = [list(reversed(column)) for column in first.layout.order]
    again = arrange(graph, Options(before=turned))
    assert again.layout.crossings <= first.layout.crossings
    assert arrange(graph, Options(before=first.layout.order)).layout.order == first.layout.order


def test_a_theme_is_attributes_and_auto_adds_only_a_style() -> None:
    light, dark, auto = (draw_lineage(looked(), Options(theme=theme)) for theme in THEMES)
    assert "<style>" not in light + dark
    assert "style=" not in light + dark + auto
    start, end = auto.index("<style>"), auto.index("</style>") + len("</style>")
    assert auto[:start] + auto[end:] == light
    assert "prefers-color-scheme:dark" in auto[start:end]


def test_an_empty_lineage_has_a_message() -> None:
    root = parsed(draw_lineage(LineageGraph([], [])))
    assert [words.text for words in texts(root)] == ["no features"]


@pytest.mark.parametrize(
    ("nodes", "links", "message"),
    [
        (["0/res/0", "0/res/0"], [], "two nodes have the key '0/res/0'"),
        (["0/res/0"], [("0/res/0", "1/res/1", 0.5)], "names no node by '1/res/1'"),
        (["0/res/0", "1/res/0"], [("1/res/0", "0/res/0", 0.5)], "does not point downstream"),
        (["0/res/0", "0/res/1"], [("0/res/0", "0/res/1", 0.5)], "does not point downstream"),
        (["0/res/0", "1/res/0"], [("0/res/0", "1/res/0", 0.0)], "has the value 0.0"),
        (["0/res/0", "1/res/0"], [("0/res/0", "1/res/0", float("nan"))], "has the value nan"),
        (["0/res/0", "1/res/0"], [("0/res/0", "1/res/0", float("inf"))], "has the value inf"),
    ],
)
def test_malformed_lineages_are_refused(
    nodes: list[str], links: list[tuple[str, str, float]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        LineageGraph([Node(key, int(key[0])) for key in nodes], [Link(*link) for link in links])


def test_a_curve_goes_through_its_points() -> None:
    ribbon = max(arrange(looked(), Options()).layout.ribbons, key=lambda ribbon: len(ribbon.points))
    root = parsed(draw_lineage(looked()))
    (link,) = [one for one in with_class(root, "link") if one.get("data-dst") == ribbon.link.dst
               and one.get("data-src") == ribbon.link.src]  # fmt: skip
    path = numbers(link.get("d", ""))
    assert path[:2] == [round(value, 1) for value in ribbon.points[0]]
    assert path[-2:] == [round(value, 1) for value in ribbon.points[-1]]


def test_hostile_keys_are_only_text() -> None:
    key = '0/res/0"><script>alert(1)</script>'
    svg = draw_lineage(LineageGraph([Node(key, 0)], [], title=key))
    assert "<script" not in svg
    assert with_class(parsed(svg), "node")[0].get("data-key") == visible(key)

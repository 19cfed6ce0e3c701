"""The picture of a lineage says what the tables say."""

import subprocess
import sys
from pathlib import Path

import pytest

import featgraph
from featgraph import Graph, UsageError
from featgraph.drawing import Node
from featgraph.lineage.lineage import Lineage
from featgraph.lineage.view import edges_view, lineage_view
from featgraph.store.features import Feature
from helpers.pictures import parsed, texts, with_class
from helpers.toy import build_toy, ids

ID = ids()


def nodes(lineage: Lineage) -> dict[str, Node]:
    return {node.key: node for node in lineage_view(lineage).nodes}


@pytest.mark.parametrize("minimum", [None, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("key", [key for key in ids() if "/res/" in key])
def test_births_deaths_and_what_is_elsewhere_are_those_of_the_verbs(
    graph: Graph, key: str, minimum: float | None
) -> None:
    births = {row["key"]: row["origin"] for row in graph.births(min=minimum).dicts()}
    deaths = {row["key"] for row in graph.deaths(min=minimum).dicts()}
    passing = graph.sql("select src, dst from matched(min := $min)", {"min": minimum}).rows
    view = lineage_view(graph.lineage(key, min=minimum))
    drawn = {node.key: node for node in view.nodes}
    assert view.seed == key
    for name, node in drawn.items():
        assert node.born == births.get(name)
        assert node.dies == (name in deaths)
        inside = sum(link.dst == name for link in view.links)
        assert node.n_parents_elsewhere + inside == sum(dst == ID[name] for _, dst in passing)
        inside = sum(link.src == name for link in view.links)
        assert node.n_children_elsewhere + inside == sum(src == ID[name] for src, _ in passing)


def test_cards_tell_tokens_writers_and_links_their_evidence(graph: Graph) -> None:
    view = lineage_view(graph.lineage("1/res/0"))
    drawn = {node.key: node for node in view.nodes}
    assert list(drawn) == ["0/res/0", "1/res/0", "2/res/0", "2/res/1"]
    assert drawn["2/res/1"].lines == (("token1", "other1"), ("next1", "then1"))
    assert [(writer.key, round(writer.value, 3)) for writer in drawn["1/res/0"].writers] == [("1/mlp/1", 0.3)]
    told = {(link.src, link.dst): (link.value, link.evidence) for link in view.links}
    rows = graph.sql(
        "select s.key, d.key, e.cosine, e.pearson from edge e join feature s on s.id = e.src "
        "join feature d on d.id = e.dst where e.kind = 'res_res'"
    ).rows
    stored = {(src, dst): (cosine, pearson) for src, dst, cosine, pearson in rows}
    assert told
    assert all(stored[pair] == evidence for pair, evidence in told.items())


@pytest.mark.thorough
def test_a_label_that_somebody_wrote_comes_before_tokens(tmp_path: Path) -> None:
    import duckdb

    path = build_toy(tmp_path / "toy.featgraph")
    with duckdb.connect(path / "graph.duckdb") as connection:
        connection.execute("delete from label")
        connection.execute("insert into label values (?, 'neuronpedia', 'animals')", [ID["1/res/0"]])
        connection.execute("insert into label values (?, 'tokens', 'token0 promotes x')", [ID["2/res/0"]])
    with featgraph.open(path) as graph:
        drawn = nodes(graph.lineage("1/res/0"))
    assert drawn["1/res/0"].lines == ("animals",)
    assert drawn["2/res/0"].lines == (("token0", "other0"), ("next0", "then0"))


def test_the_weakest_are_left_out_and_counted_and_the_seed_never_is(graph: Graph) -> None:
    lineage = graph.lineage("0/res/1", min=0.3)
    assert len([member for member in lineage.members if member.site == "res"]) == 4
    view = lineage_view(lineage, limit=2)
    assert [node.key for node in view.nodes] == ["0/res/1", "1/res/1"]
    assert view.n_left_out == 2
    assert {node.key: node.n_children_elsewhere for node in view.nodes} == {"0/res/1": 1, "1/res/1": 1}
    assert lineage_view(graph.lineage("2/res/1", min=0.3), limit=1).nodes[0].key == "2/res/1"


@pytest.mark.parametrize("key", ["1/mlp/0", "2/att/3"])
def test_a_module_feature_is_a_card_where_it_is_the_seed(graph: Graph, key: str) -> None:
    view = lineage_view(graph.lineage(key))
    assert [node.key for node in view.nodes if node.site != "res"] == [key]
    parsed(graph.lineage(key).draw())


def test_a_lineage_of_no_graph_is_drawn_from_what_it_holds(graph: Graph) -> None:
    read = graph.lineage("1/res/0")
    view = lineage_view(Lineage(read.seed, read.members, read.edges))
    assert view.evidence is None
    assert next(node.lines for node in view.nodes) == ("cat",)


def test_a_picture_can_be_made_after_the_graph_is_closed(toy: Path) -> None:
    with featgraph.open(toy) as graph:
        lineage = graph.lineage("1/res/0")
        inside = lineage.draw()
    assert lineage.draw() == inside
    graph.close()


def test_a_notebook_shows_the_picture_and_a_short_text(graph: Graph) -> None:
    lineage = graph.lineage("1/res/0")
    svg = lineage._repr_svg_()
    assert len(with_class(parsed(svg), "node")) == 4
    assert repr(lineage).startswith("<Lineage of 1/res/0: 7 features, ")
    assert svg == lineage.draw() == graph.lineage("1/res/0").draw()


@pytest.mark.parametrize(
    ("name", "start"), [("a.svg", b"<svg"), ("a.PNG", b"\x89PNG"), ("a.html", b"<!doctype html>")]
)
def test_a_picture_is_saved_by_its_name(graph: Graph, tmp_path: Path, name: str, start: bytes) -> None:
    graph.lineage("1/res/0").save(tmp_path / name, width=600)
    assert (tmp_path / name).read_bytes().startswith(start)


def test_another_ending_is_refused(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a\.gif': a picture is written as \.svg, \.png or \.html"):
        graph.lineage("1/res/0").save(tmp_path / "a.gif")
    with pytest.raises(UsageError, match=r"cannot write .*nowhere/a\.svg: no such file or directory"):
        graph.lineage("1/res/0").save(tmp_path / "nowhere" / "a.svg")


def test_edges_of_the_graph_have_their_cosines_and_other_pairs_one_width(graph: Graph) -> None:
    def feature(key: str) -> Feature:
        return Feature(ID[key], featgraph.FeatureKey.parse(key), None)

    ends = [feature(key) for key in ("0/res/1", "1/res/1", "2/res/1")]
    pairs = [(ID["0/res/1"], ID["1/res/1"]), (ID["1/res/1"], ID["2/res/1"])]
    view = edges_view(graph.store, ends, pairs)
    assert view.measure == "cosine"
    assert [round(link.value, 3) for link in view.links] == [0.8, 0.8]
    view = edges_view(graph.store, ends, [*pairs, (ID["0/res/1"], ID["2/res/1"])])
    assert view.measure is None
    assert {link.value for link in view.links} == {1.0}


def test_a_lineage_that_is_not_drawn_does_not_load_the_drawing(toy: Path) -> None:
    code = (
        "import sys, featgraph\n"
        f"featgraph.open({str(toy)!r}).lineage('1/res/0')\n"
        "assert not any(name.startswith('featgraph.drawing') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(featgraph.__file__).parent.parent)


def test_the_title_says_what_is_drawn(graph: Graph) -> None:
    told = [words.text for words in texts(parsed(graph.lineage("1/res/0", min=0.5).draw()))]
    assert told[1] == f"{graph.path.name} · cosine ≥ 0.5 · 4 features, 3 writers"

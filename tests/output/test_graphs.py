"""Rows as graphs: what becomes a node or an edge, and files that other tools read back unchanged."""

import io
import json
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import networkx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import featgraph
from featgraph import output
from featgraph.core.result import Result
from featgraph.core.text import xml_text
from featgraph.errors import UsageError
from featgraph.output.graphs.networkx import graph_of, lineage_graph
from featgraph.output.graphs.node_link import node_link
from featgraph.output.graphs.xml import gexf, graphml
from featgraph.query import run_verb
from helpers.examples import examples
from helpers.toy import build_toy, ids

ID = ids()
GRAPH_FORMATS: tuple[output.Format, ...] = ("graphml", "gexf", "dot", "mermaid", "node-link")
EDGES_TYPE = "STRUCT(src INTEGER, dst INTEGER, cosine FLOAT)[]"
NASTY = 'say "hi"\n<b> & co \\ \x00\x1b[31m \ufffe 🙂 → 日本\x85'


def asked(toy: Path, statement: str) -> networkx.DiGraph:
    """The graph of what a statement answers."""
    with featgraph.open(toy) as graph:
        return graph_of(graph.sql(statement), graph.store)


def drawn(toy: Path, result: Result) -> networkx.DiGraph:
    with featgraph.open(toy) as graph:
        return graph_of(result, graph.store)


def edges(graph: networkx.DiGraph) -> list[tuple[str, str, dict[str, object]]]:
    return list(graph.edges(data=True))


def paths(column: str, type: str, *found: object) -> Result:
    return Result([column], [(path,) for path in found], [type])


def noted(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


def test_rows_with_src_and_dst_are_edges_between_keys(toy: Path) -> None:
    graph = asked(toy, "select src, dst, kind, cosine, pearson from edge where cosine between 0.85 and 0.95")
    assert edges(graph) == [("1/mlp/0", "1/res/3", {"kind": "mlp_res", "cosine": 0.9, "pearson": 0.6})]
    assert dict(graph.nodes(data=True)) == {
        "1/mlp/0": {"feature": 16, "layer": 1, "site": "mlp", "idx": 0, "label": "sun, sunny"},
        "1/res/3": {"feature": 23, "layer": 1, "site": "res", "idx": 3, "label": "sun"},
    }


def test_ends_may_be_keys_in_one_column_and_ids_in_the_other(toy: Path) -> None:
    graph = asked(toy, "select '0/res/0' as src, id as DST from feature where key in ('1/res/0', '1/res/3')")
    assert list(graph.edges) == [("0/res/0", "1/res/0"), ("0/res/0", "1/res/3")]
    assert graph.nodes["0/res/0"]["feature"] == ID["0/res/0"]


def test_nodes_are_in_order_of_id_and_edges_in_order_of_their_ends(toy: Path) -> None:
    graph = asked(toy, "select src, dst from edge order by hash(src, dst)")
    assert [node["feature"] for _, node in graph.nodes(data=True)] == sorted(
        {ID[end] for pair in graph.edges for end in pair}
    )
    assert [(ID[src], ID[dst]) for src, dst in graph.edges] == sorted(
        (ID[src], ID[dst]) for src, dst in graph.edges
    )


@pytest.mark.parametrize(
    ("type", "path"),
    [
        ("INTEGER[]", [ID["0/res/0"], ID["1/res/0"], ID["2/res/1"]]),
        ("INTEGER[3]", (ID["0/res/0"], ID["1/res/0"], ID["2/res/1"])),
        ("BIGINT[]", [ID["2/res/1"], ID["1/res/0"], ID["0/res/0"]]),
        ("VARCHAR[]", ["0/res/0", "1/res/0", "2/res/1"]),
        ("VARCHAR[]", ["2/res/1", "1/res/0", "0/res/0"]),
    ],
)
def test_a_path_is_a_chain_of_edges_that_point_downstream(toy: Path, type: str, path: object) -> None:
    graph = drawn(toy, paths("p", type, path))
    assert edges(graph) == [("0/res/0", "1/res/0", {"n": 1}), ("1/res/0", "2/res/1", {"n": 1})]


def test_an_edge_of_several_paths_occurs_once_and_is_counted(toy: Path) -> None:
    graph = drawn(
        toy,
        paths("p", "VARCHAR[]", ["0/res/0", "1/res/0", "2/res/0"], ["0/res/0", "1/res/0", "2/res/1"], None),
    )
    assert {(src, dst): found["n"] for src, dst, found in edges(graph)} == {
        ("0/res/0", "1/res/0"): 2,
        ("1/res/0", "2/res/0"): 1,
        ("1/res/0", "2/res/1"): 1,
    }


def test_edges_of_a_path_bring_their_cosine(toy: Path) -> None:
    graph = asked(toy, "select list({'src': src, 'dst': dst, 'cosine': cosine}) as e from edge where src = 9")
    assert edges(graph) == [
        ("0/res/1", "1/res/1", {"cosine": 0.8, "n": 1}),
        ("0/res/1", "1/res/2", {"cosine": 0.8, "n": 1}),
    ]


def test_edges_are_preferred_to_keys_and_keys_to_ids(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    types = ["INTEGER[]", "VARCHAR[]", EDGES_TYPE]
    row = ([0, 1], ["0/res/0", "1/res/0"], [{"src": ID["1/res/0"], "dst": ID["2/res/0"], "cosine": 0.5}])
    assert list(drawn(toy, Result(["a", "b", "c"], [row], types)).edges) == [("1/res/0", "2/res/0")]
    assert list(drawn(toy, Result(["a", "b"], [row[:2]], types[:2])).edges) == [("0/res/0", "1/res/0")]
    assert noted(capsys) == ""


def test_a_second_path_column_is_left_out_and_named(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = (["0/res/0", "1/res/0"], ["1/res/0", "2/res/0"])
    graph = drawn(toy, Result(["p", "q"], [row], ["VARCHAR[]", "VARCHAR[]"]))
    assert list(graph.edges) == [("0/res/0", "1/res/0")]
    assert noted(capsys) == "featgraph: paths are read from column 'p', not from 'q'\n"


def test_features_in_a_list_that_no_edge_can_join_are_no_path(toy: Path) -> None:
    with featgraph.open(toy) as graph:
        found = run_verb(graph.store, "splits", {"min": 0.7})
        with pytest.raises(UsageError, match="'members' holds no paths: 1/res/1 and 1/res/2 are of one SAE"):
            graph_of(found, graph.store)


@pytest.mark.parametrize("verb", ["births", "deaths", "ancestors"])
def test_rows_that_join_nothing_say_which_columns_would_do(toy: Path, verb: str) -> None:
    with featgraph.open(toy) as graph:
        found = run_verb(graph.store, verb, {"f": "1/res/0"} if verb == "ancestors" else {})
        with pytest.raises(UsageError) as caught:
            graph_of(found, graph.store)
    assert f"columns {', '.join(found.columns)} do not say it" in str(caught.value)
    assert "return src and dst, or a path as edges(p), keys(p) or nodes(p)" in str(caught.value)
    assert "`featgraph subgraph GRAPH KEY`" in str(caught.value)


def test_lists_of_tokens_and_of_small_numbers_are_no_paths(toy: Path) -> None:
    for statement in ("select key, top_tokens from feature", "select list(rank_out) as ranks from edge"):
        with pytest.raises(UsageError, match="do not say it"):
            asked(toy, statement)


@pytest.mark.parametrize("value", [0.5, True, [1]])
def test_an_end_that_is_neither_id_nor_key_is_refused(toy: Path, value: object) -> None:
    with pytest.raises(UsageError, match="neither a feature's id nor its key"):
        drawn(toy, Result(["src", "dst"], [(1, value)], ["INTEGER", "DOUBLE"]))


def test_what_is_no_feature_is_a_bare_node_after_the_others(toy: Path) -> None:
    rows: list[tuple[object, ...]] = [("9/res/0", "1/res/0"), (-1, "two\nlines"), (36, "0/res/4")]
    graph = drawn(toy, Result(["src", "dst"], rows))
    assert list(graph.nodes) == ["1/res/0", "-1", "0/res/4", "36", "9/res/0", "two\\nlines"]
    assert [name for name, found in graph.nodes(data=True) if found] == ["1/res/0"]


def test_without_a_store_every_node_is_bare() -> None:
    graph = graph_of(paths("p", "VARCHAR[]", ["0/res/0", "1/res/0"]), None)
    assert dict(graph.nodes(data=True)) == {"0/res/0": {}, "1/res/0": {}}
    assert edges(graph) == [("0/res/0", "1/res/0", {"n": 1})]


def test_null_joins_nothing(toy: Path) -> None:
    graph = drawn(toy, Result(["src", "dst", "kind"], [(1, None, None), (None, 2, "x"), (None, None, None)]))
    assert (list(graph.nodes), edges(graph)) == (["0/att/1", "0/att/2"], [])
    graph = drawn(toy, paths("p", "VARCHAR[]", ["0/res/0"], ["0/res/1", None, "2/res/1"], []))
    assert (list(graph.nodes), edges(graph)) == (["0/res/0", "0/res/1", "2/res/1"], [])


def test_rows_of_one_edge_keep_what_they_agree_on(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[tuple[object, ...]] = [
        (8, 20, "res_res", 1, None),
        ("0/res/0", "1/res/0", "res_res", 2, 3),
        (8, 21, "res_res", 1, None),
    ]
    graph = drawn(toy, Result(["src", "dst", "kind", "layer", "extra"], rows))
    assert edges(graph) == [
        ("0/res/0", "1/res/0", {"kind": "res_res", "n": 2}),
        ("0/res/0", "1/res/1", {"kind": "res_res", "layer": 1}),
    ]
    assert "1 of 2 edges are in several rows; values in which these differ are left out" in noted(capsys)


def test_a_column_named_n_is_not_taken_for_the_count(toy: Path) -> None:
    graph = drawn(toy, Result(["src", "dst", "n"], [(8, 20, 5), (8, 20, 5), (8, 21, 1), (8, 21, 2)]))
    assert edges(graph) == [("0/res/0", "1/res/0", {"n": 5}), ("0/res/0", "1/res/1", {})]


def test_a_label_that_somebody_wrote_comes_before_the_tokens(tmp_path: Path) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    with duckdb.connect(str(path / "graph.duckdb")) as connection:
        connection.execute("insert into label values (?, 'human', 'cats at home')", [ID["1/res/0"]])
    graph = asked(path, "select '0/res/0' as src, '1/res/0' as dst")
    assert [found["label"] for _, found in graph.nodes(data=True)] == ["cat", "cats at home"]


def nasty_graph() -> networkx.DiGraph:
    """A graph with every kind of value that a format may stumble over."""
    graph = networkx.DiGraph()
    graph.add_node("0/res/0", feature=8, layer=0, site="res", idx=0, label=NASTY)
    graph.add_node("1/res/0", feature=20, layer=1, site="res", idx=0)
    graph.add_node('un"known\\')
    graph.add_edge("0/res/0", "1/res/0", cosine=0.8, n=3, ok=True, note=NASTY, mixed=1, list=["a", 1])
    graph.add_edge("0/res/0", 'un"known\\', cosine=1, n=2**40, ok=False, note="", mixed=0.5, list=[])
    return graph


def test_graphml_reads_back_the_same() -> None:
    read = networkx.parse_graphml(graphml(nasty_graph()))
    assert dict(read.nodes(data=True)) == {
        "0/res/0": {"feature": 8, "layer": 0, "site": "res", "idx": 0, "label": xml_text(NASTY)},
        "1/res/0": {"feature": 20, "layer": 1, "site": "res", "idx": 0},
        'un"known\\': {},
    }
    assert edges(read) == [
        (
            "0/res/0",
            "1/res/0",
            {"cosine": 0.8, "n": 3, "ok": True, "note": xml_text(NASTY), "mixed": 1.0, "list": '["a", 1]'},
        ),
        (
            "0/res/0",
            'un"known\\',
            {"cosine": 1.0, "n": 2**40, "ok": False, "note": "", "mixed": 0.5, "list": "[]"},
        ),
    ]
    assert read.is_directed()


def test_gexf_reads_back_the_same() -> None:
    read = networkx.read_gexf(io.BytesIO(gexf(nasty_graph()).encode()))
    expected = networkx.parse_graphml(graphml(nasty_graph()))
    for name, found in expected.nodes(data=True):
        assert read.nodes[name] == {"label": name, **found}
    for number, (src, dst, found) in enumerate(edges(expected)):
        assert read.edges[src, dst] == {"id": str(number), **found}
    assert read.is_directed()


def test_node_link_reads_back_the_same_with_lists() -> None:
    read = networkx.node_link_graph(json.loads(node_link(nasty_graph())), edges="edges")
    assert dict(read.nodes(data=True)) == dict(nasty_graph().nodes(data=True))
    assert edges(read) == edges(nasty_graph())
    assert read.is_directed()


@settings(max_examples=examples(60), deadline=None)
@given(st.text(), st.text(), st.text(min_size=1))
def test_any_text_survives_xml(label: str, value: str, name: str) -> None:
    graph = networkx.DiGraph()
    graph.add_node("a", label=label)
    graph.add_edges_from([("a", "b", {f"x{name}": value})])
    for read in (
        networkx.parse_graphml(graphml(graph)),
        networkx.read_gexf(io.BytesIO(gexf(graph).encode())),
    ):
        assert read.nodes["a"]["label"] == xml_text(label)
        assert read.edges["a", "b"][f"x{xml_text(name)}"] == xml_text(value)


def test_joiners_of_letters_survive_xml() -> None:
    graph = networkx.DiGraph()
    graph.add_node("a", label="\u0645\u06cc\u200c\u062e \U0001f469\u200d\U0001f4bb \x1b[31m")
    (told,) = networkx.parse_graphml(graphml(graph)).nodes.values()
    assert told["label"] == "\u0645\u06cc\u200c\u062e \U0001f469\u200d\U0001f4bb \\x1b[31m"


def test_names_that_a_format_keeps_for_itself_get_an_underscore() -> None:
    taken = ["id", "key", "label", "type", "start", "end", "viz", "spells", "weight", "source", "target"]
    graph = networkx.DiGraph()
    graph.add_edges_from([("a", "b", {name: f"my {name}" for name in taken})])
    read = networkx.read_gexf(io.BytesIO(gexf(graph).encode())).edges["a", "b"]
    assert {name.rstrip("_"): value for name, value in read.items() if name != "id"} == graph.edges["a", "b"]
    read = networkx.node_link_graph(json.loads(node_link(graph)), edges="edges").edges["a", "b"]
    assert {name.rstrip("_"): value for name, value in read.items()} == graph.edges["a", "b"]
    assert networkx.parse_graphml(graphml(graph)).edges["a", "b"] == graph.edges["a", "b"]


def test_a_numeric_weight_is_the_weight_of_a_gexf_edge() -> None:
    graph = networkx.DiGraph()
    graph.add_edge("a", "b", weight=0.5)
    assert ' weight="0.5"' in gexf(graph)


@pytest.mark.parametrize("format", GRAPH_FORMATS)
def test_equal_graphs_are_equal_files(
    toy: Path, capsys: pytest.CaptureFixture[str], format: output.Format
) -> None:
    with featgraph.open(toy) as graph:
        found = graph.sql("select src, dst, kind, cosine from edge")
        shuffled = random.Random(1).sample(found.rows, len(found))
        output.write(found, format, store=graph.store)
        first = capsys.readouterr().out
        output.write(Result(found.columns, shuffled, found.types), format, store=graph.store)
    assert capsys.readouterr().out == first
    assert "date" not in first
    assert first.endswith("\n")
    assert not first.endswith("\n\n")


@pytest.mark.parametrize("format", GRAPH_FORMATS)
def test_no_rows_are_an_empty_graph(
    toy: Path, capsys: pytest.CaptureFixture[str], format: output.Format
) -> None:
    with featgraph.open(toy) as graph:
        output.write(graph.sql("select src, dst from edge where cosine > 2"), format, store=graph.store)
    written = capsys.readouterr()
    assert written.err == "featgraph: no rows\n"
    assert written.out.count("\n") >= 1
    assert "res" not in written.out


def test_a_limit_is_of_rows_and_is_said(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with featgraph.open(toy) as graph:
        output.write(graph.sql("select src, dst from edge"), "node-link", limit=2, store=graph.store)
    written = capsys.readouterr()
    assert len(json.loads(written.out)["edges"]) == 2
    assert written.err == "featgraph: 2 of 16 rows shown; --limit 0 shows all\n"


def test_a_graph_that_is_refused_leaves_the_old_file(toy: Path, tmp_path: Path) -> None:
    path = tmp_path / "births.graphml"
    path.write_text("old")
    with featgraph.open(toy) as graph, pytest.raises(UsageError):
        output.write(run_verb(graph.store, "births", {}), out=path, store=graph.store)
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("births.graphml", "old")]


@pytest.mark.parametrize("format", GRAPH_FORMATS)
def test_a_lineage_is_a_graph_in_every_format(toy: Path, tmp_path: Path, format: output.Format) -> None:
    with featgraph.open(toy) as graph:
        output.write_lineage(graph.lineage("1/res/0"), format, out=tmp_path / "lineage")
    text = (tmp_path / "lineage").read_text(encoding="utf-8")
    assert all(key in text for key in ("0/mlp/1", "0/res/0", "1/res/0", "2/res/1", "2/att/3"))
    assert "cats promotes purr" in text


def test_a_lineage_has_the_nodes_and_edges_that_it_has_in_python(toy: Path) -> None:
    with featgraph.open(toy) as graph:
        lineage = graph.lineage("1/res/0")
    written, known = lineage_graph(lineage), lineage.to_networkx()
    assert list(written.nodes) == list(known.nodes)
    assert list(written.edges) == list(known.edges)
    for name, found in written.nodes(data=True):
        same: Mapping[str, Any] = {**found, "id": found["feature"]}
        assert {**known.nodes[name], "feature": same["id"]} == pytest.approx(same)


def test_the_file_of_a_lineage_chooses_a_graph_by_its_name(toy: Path, tmp_path: Path) -> None:
    with featgraph.open(toy) as graph:
        output.write_lineage(graph.lineage("1/res/0"), out=tmp_path / "a.graphml")
    assert len(networkx.read_graphml(tmp_path / "a.graphml")) == 7


@pytest.mark.thorough
def test_networkx_is_imported_for_graphs_only(toy: Path) -> None:
    program = (
        "import sys, featgraph\nfrom featgraph import output\n"
        "with featgraph.open(sys.argv[1]) as graph:\n"
        "    output.write(graph.sql('select src, dst from edge'), sys.argv[2], store=graph.store)\n"
        "sys.exit('networkx' in sys.modules)"
    )
    for format, loaded in (("json", 0), ("table", 0), ("dot", 1)):
        command = [sys.executable, "-c", program, str(toy), format]
        assert subprocess.run(command, capture_output=True, check=False).returncode == loaded

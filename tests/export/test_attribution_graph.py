"""Attribution-graph JSON: the fields that its pages require, and values that break them."""

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

import featgraph
from featgraph import Graph, UsageError, export
from featgraph.cli import app
from featgraph.export.attribution_graph import MAX_NODES
from featgraph.lineage.lineage import Edge, Lineage, Member
from helpers.toy import build_toy


def written(graph: Graph, lineage: Lineage, path: Path) -> dict[str, Any]:
    done = export.write_lineage(lineage, graph.store, path, "attribution-graph")
    content: dict[str, Any] = json.loads(done.paths[0].read_text())
    return content


def uncantor(number: int) -> tuple[int, int]:
    """Layer and index, as the pages take `feature` apart."""
    whole = int(((8 * number + 1) ** 0.5 - 1) / 2)
    idx = number - (whole * whole + whole) // 2
    return whole - idx, idx


def test_the_nodes_are_the_members_and_the_links_their_edges(graph: Graph, tmp_path: Path) -> None:
    lineage = graph.lineage("1/res/0")
    content = written(graph, lineage, tmp_path / "cat.json")
    nodes = {node["node_id"]: node for node in content["nodes"]}
    assert [node["clerp"].split()[0] for node in content["nodes"]] == [
        member.key for member in lineage.members
    ]
    assert [(link["source"], link["target"], link["weight"]) for link in content["links"]] == [
        (ident(edge.src), ident(edge.dst), pytest.approx(edge.cosine)) for edge in lineage.edges
    ]
    assert all(nodes[link["source"]] and nodes[link["target"]] for link in content["links"])
    assert nodes["1_0_2"] == {
        "node_id": "1_0_2",
        "feature": 1,
        "layer": "1",
        "ctx_idx": 2,
        "feature_type": "cross layer transcoder",
        "jsNodeId": "1_0-2",
        "clerp": "1/res/0 cat, cats",
        "influence": None,
        "activation": None,
        "token_prob": 0.0,
        "is_target_logit": False,
        "run_idx": 0,
        "reverse_ctx_idx": 0,
    }


def ident(key: str) -> str:
    layer, site, idx = key.split("/")
    return f"{layer}_{idx}_{('att', 'mlp', 'res').index(site)}"


def test_features_of_three_sites_with_equal_layer_and_index_stay_distinct(
    graph: Graph, tmp_path: Path
) -> None:
    members = tuple(
        Member(number, f"1/{site}/7", 1, site, 7, 0, 1.0, 0.1, None)
        for number, site in enumerate(("att", "mlp", "res"))
    )
    content = written(graph, Lineage("1/res/7", members, ()), tmp_path / "x.json")
    for name in ("node_id", "jsNodeId"):
        assert len({node[name] for node in content["nodes"]}) == 3
    assert {uncantor(node["feature"]) for node in content["nodes"]} == {(1, 7)}
    assert [node["feature_type"] for node in content["nodes"]] == ["lorsa", *["cross layer transcoder"] * 2]
    # A page that counts occurrences by layer and index drops what is at more than two thirds of the tokens.
    assert len(content["nodes"]) <= len(content["metadata"]["prompt_tokens"]) * 2 / 3


def test_the_metadata_has_what_both_pages_require(graph: Graph, tmp_path: Path) -> None:
    metadata = written(graph, graph.lineage("1/res/0"), tmp_path / "cat.json")["metadata"]
    assert (metadata["slug"], metadata["scan"], metadata["schema_version"]) == ("cat", "toy", 1)
    assert metadata["prompt_tokens"] == ["att", " mlp", " res", " of", " 1/res/0"]
    assert metadata["prompt"] == "".join(metadata["prompt_tokens"])
    assert metadata["transcoder_list"] == ["toy"]
    assert metadata["info"]["generator"] == {"name": "featgraph", "version": featgraph.__version__}
    assert "feature_details" not in metadata


@pytest.mark.thorough
def test_dashboards_are_named_where_neuronpedia_has_them(tmp_path: Path) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    with duckdb.connect(path / "graph.duckdb") as connection:
        connection.execute("update sae set neuronpedia_id = 'toy-1b/' || layer || '-toy-' || site || '-4'")
    with featgraph.open(path) as opened:
        metadata = written(opened, opened.lineage("1/res/0"), tmp_path / "cat.json")["metadata"]
    assert metadata["scan"] == "toy-1b"
    assert metadata["feature_details"] == {"neuronpedia_source_set": "toy-res-4"}


def test_the_main_line_is_pinned_with_its_writers(graph: Graph, tmp_path: Path) -> None:
    state = written(graph, graph.lineage("1/res/0"), tmp_path / "cat.json")["qParams"]
    line = ["0_0_2", "1_0_2", "2_0_2"]
    assert state["supernodes"] == [["span of 1/res/0", *line]]
    assert state["pinnedIds"] == [*line, "0_1_1", "1_1_1", "2_3_0"]
    assert (state["clickedId"], state["linkType"]) == ("1_0_2", "both")


def test_a_lineage_in_layer_0_alone_would_show_nothing(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the lineage of '0/res/2' lies in layer 0 alone, .*; lower --min"):
        written(graph, graph.lineage("0/res/2"), tmp_path / "x.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.thorough
def test_more_than_a_page_can_show_is_cut_to_the_strongest(graph: Graph, tmp_path: Path) -> None:
    n_members = MAX_NODES + 500
    members = tuple(
        Member(number, f"{number}/res/0", number, "res", 0, number, (number % 1000) / 2000, 0.1, None)
        for number in range(n_members)
    )
    edges = tuple(Edge(f"{n}/res/0", f"{n + 1}/res/0", "res_res", 0.5, 0.5) for n in range(n_members - 1))
    lineage = Lineage("0/res/0", members, edges)
    done = export.write_lineage(lineage, graph.store, tmp_path / "x", "attribution-graph")
    content = json.loads((tmp_path / "x.json").read_text())
    kept = {node["node_id"] for node in content["nodes"]}
    assert (done.paths, len(kept)) == ((tmp_path / "x.json",), MAX_NODES)
    assert done.notes == ("the 7,500 strongest of 8,000 features; raise --min for fewer",)
    assert done.notes[0] in content["metadata"]["info"]["description"]
    assert "0_0_2" in kept
    assert min(member.weight for member in members[1:] if f"{member.layer}_0_2" in kept) == pytest.approx(
        0.031
    )
    assert all(link["source"] in kept and link["target"] in kept for link in content["links"])


def test_a_vector_has_no_attribution_graph(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="attribution-graph holds a lineage, not a vector; formats of vectors"
    ):
        export.write(graph.steering_vector("1/res/0"), tmp_path / "x.json", "attribution-graph")
    with pytest.raises(UsageError, match="no export format 'gexf'"):
        export.write_lineage(graph.lineage("1/res/0"), graph.store, tmp_path / "x.json", "gexf")


@pytest.mark.thorough
def test_the_command_takes_the_thresholds_of_a_lineage(toy: Path, tmp_path: Path) -> None:
    def nodes(*options: str) -> int:
        command = [
            "export",
            str(toy),
            "1/res/0",
            "--format",
            "attribution-graph",
            "-o",
            str(tmp_path / "x.json"),
        ]
        done = CliRunner().invoke(app, [*command, *options])
        assert done.exit_code == 0, done.stderr
        assert done.stderr.startswith(f"featgraph: wrote {tmp_path / 'x.json'}: the lineage of 1/res/0\n")
        return len(json.loads((tmp_path / "x.json").read_text())["nodes"])

    assert (nodes(), nodes("--min", "0.9"), nodes("--min", "0.9", "--writers", "0.5")) == (7, 6, 4)

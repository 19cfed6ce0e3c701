import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import featgraph
from featgraph import Graph, UsageError
from featgraph.lineage.lineage import Edge, Lineage, Member, span
from featgraph.store.features import find_feature
from helpers.toy import build_toy, ids

HEAVY = ["torch", "transformers", "sae_lens", "networkx", "faiss", "numpy", "pandas", "scipy"]


def keys(found: Lineage) -> list[str]:
    return [member.key for member in found.members]


def line(graph: Graph, key: str, threshold: float | None = None) -> list[tuple[str, float | None]]:
    steps = span(graph.store, key, min=threshold)
    return [(step.key, None if step.cosine is None else round(step.cosine, 4)) for step in steps]


def test_a_lineage_holds_ancestors_descendants_and_writers(graph: Graph) -> None:
    found = graph.lineage("1/res/0")
    assert found.seed == "1/res/0"
    assert keys(found) == ["0/mlp/1", "0/res/0", "1/mlp/1", "1/res/0", "2/att/3", "2/res/0", "2/res/1"]


def test_a_lineage_without_writers_is_residual_only(graph: Graph) -> None:
    assert keys(graph.lineage("1/res/0", writers=False)) == ["0/res/0", "1/res/0", "2/res/0", "2/res/1"]


def test_a_member_says_where_it_stands_and_what_it_is(graph: Graph) -> None:
    members = {member.key: member for member in graph.lineage("2/res/1").members}
    far = members["0/res/1"]
    assert replace(far, weight=0.0) == Member(ids()[far.key], "0/res/1", 0, "res", 1, 2, 0.0, 0.25, None)
    assert far.weight == pytest.approx(0.64)
    assert members["1/res/0"].label == "cat, cats"


def test_edges_join_members_by_key(graph: Graph) -> None:
    [edge] = graph.lineage("1/res/3").edges
    assert replace(edge, cosine=0.0) == Edge("1/mlp/0", "1/res/3", "mlp_res", 0.0, edge.value)
    assert edge.cosine == pytest.approx(0.9)


def test_the_threshold_decides_which_edges_belong(graph: Graph) -> None:
    assert "2/res/1" not in keys(graph.lineage("1/res/0", min=0.7))
    assert "0/res/2" in keys(graph.lineage("1/res/3", min=0.4))


def test_a_threshold_equal_to_the_cosine_keeps_the_edge(graph: Graph) -> None:
    assert "1/res/1" in keys(graph.lineage("0/res/1", min=0.8))


def test_hops_limit_how_far_a_lineage_goes(graph: Graph) -> None:
    assert keys(graph.lineage("0/res/0", hops=1, writers=False)) == ["0/res/0", "1/res/0"]


def test_a_feature_without_links_is_its_own_lineage(graph: Graph) -> None:
    found = graph.lineage("0/res/3")
    assert keys(found) == ["0/res/3"]
    assert found.edges == ()


def test_a_key_is_written_one_way_only(graph: Graph) -> None:
    assert graph.lineage(" 01/res/00 ").seed == "1/res/0"


def test_networkx_nodes_are_keys_with_attributes(graph: Graph) -> None:
    drawn = graph.lineage("1/res/0").to_networkx()
    node = drawn.nodes["0/res/0"]
    assert (node["layer"], node["site"], node["distance"], node["label"]) == (0, "res", 1, "cat")
    assert drawn.graph["seed"] == "1/res/0"


def test_networkx_edges_carry_kind_and_cosine(graph: Graph) -> None:
    drawn = graph.lineage("1/res/0").to_networkx()
    assert drawn.edges["2/att/3", "2/res/0"] == {"kind": "att_res", "cosine": pytest.approx(0.26)}


def test_the_networkx_graph_can_be_saved_as_graphml(graph: Graph, tmp_path: Path) -> None:
    import networkx

    drawn = graph.lineage("1/res/0").to_networkx()
    networkx.write_graphml(drawn, tmp_path / "lineage.graphml")
    assert set(networkx.read_graphml(tmp_path / "lineage.graphml")) == set(drawn)


@pytest.mark.thorough
def test_what_somebody_wrote_is_the_label_rather_than_tokens(tmp_path: Path) -> None:
    import duckdb

    path = build_toy(tmp_path / "toy.featgraph")
    with duckdb.connect(str(path / "graph.duckdb")) as connection:
        connection.execute("insert into label values (?, 'neuronpedia', 'felines')", [ids()["0/res/0"]])
    with featgraph.open(path) as opened:
        assert opened.lineage("0/res/0").members[1].label == "felines"


def test_the_span_of_a_persistent_feature_is_all_its_layers(graph: Graph) -> None:
    assert line(graph, "0/res/0") == [("0/res/0", None), ("1/res/0", 1.0), ("2/res/0", 1.0)]


def test_the_span_goes_both_ways_from_the_middle(graph: Graph) -> None:
    assert line(graph, "1/res/2") == [("0/res/1", 0.8), ("1/res/2", None), ("2/res/1", 0.8)]


def test_the_span_takes_the_lower_id_among_equal_children(graph: Graph) -> None:
    assert [key for key, _ in line(graph, "0/res/1")] == ["0/res/1", "1/res/1", "2/res/1"]


def test_the_span_takes_the_lower_id_among_equal_parents(graph: Graph) -> None:
    assert [key for key, _ in line(graph, "2/res/1")] == ["0/res/1", "1/res/1", "2/res/1"]


def test_the_span_ends_where_the_cosine_falls_below_the_threshold(graph: Graph) -> None:
    assert line(graph, "1/res/3") == [("1/res/3", None)]
    assert line(graph, "1/res/3", 0.35) == [("0/res/2", 0.4), ("1/res/3", None)]
    assert line(graph, "0/res/1", 0.9) == [("0/res/1", None)]


def test_an_mlp_seed_starts_where_it_writes_most(graph: Graph) -> None:
    assert line(graph, "0/mlp/1") == [("0/res/0", 0.7), ("1/res/0", 1.0), ("2/res/0", 1.0)]


def test_an_att_seed_starts_where_it_writes_most(graph: Graph) -> None:
    assert line(graph, "1/att/0") == [("0/res/1", 0.8), ("1/res/1", 0.4), ("2/res/1", 0.8)]


def test_a_module_feature_that_writes_too_little_has_no_span(graph: Graph) -> None:
    assert line(graph, "1/mlp/2") == []
    assert line(graph, "2/mlp/0") == []


def test_a_lineage_knows_its_span(graph: Graph) -> None:
    assert [step.key for step in graph.lineage("1/res/0").span] == ["0/res/0", "1/res/0", "2/res/0"]
    assert graph.lineage("0/mlp/1").span == ()


@pytest.mark.parametrize("threshold", [None, 0.05])
def test_the_span_is_the_line_of_first_ranks(graph: Graph, threshold: float | None) -> None:
    for seed in ("0/res/0", "0/res/2", "1/res/1", "1/res/3", "2/res/1"):
        assert [key for key, _ in line(graph, seed, threshold)] == _first_ranks(graph, seed, threshold)


def _first_ranks(graph: Graph, key: str, threshold: float | None) -> list[str]:
    """The definition, step by step: rank_in = 1 upwards, rank_out = 1 downwards, while the cosine holds."""
    rows = graph.store.connection.execute(
        "select s.key, d.key, rank_in, rank_out, cosine >= $least::float from edge"
        " join feature s on s.id = src join feature d on d.id = dst where kind = 'res_res'",
        {"least": 0.5 if threshold is None else threshold},
    ).fetchall()
    up = {dst: src for src, dst, rank_in, _, passes in rows if rank_in == 1 and passes}
    down = {src: dst for src, dst, _, rank_out, passes in rows if rank_out == 1 and passes}
    found = [key]
    while found[0] in up:
        found.insert(0, up[found[0]])
    while found[-1] in down:
        found.append(down[found[-1]])
    return found


def test_an_index_beyond_the_sae_is_told_its_size(graph: Graph) -> None:
    with pytest.raises(UsageError, match=r"'1/res/9': 1/res has 4 features; the last is '1/res/3'$"):
        graph.lineage("1/res/9")


def test_a_layer_without_sae_is_told_the_layers_and_the_nearest(graph: Graph) -> None:
    with pytest.raises(UsageError, match=r"mlp SAEs are at layer 0, 1, 2; did you mean '2/mlp/1'\?$"):
        graph.similar("9/mlp/1")


def test_a_site_without_sae_is_told_the_sites(graph: Graph) -> None:
    with pytest.raises(UsageError) as caught:
        find_feature([sae for sae in graph.store.saes if sae.site != "att"], "1/att/7")
    assert str(caught.value) == (
        "no feature '1/att/7': there are no att SAEs, only mlp, res; did you mean '1/res/3'?"
    )


def test_a_malformed_key_is_told_the_form(graph: Graph) -> None:
    with pytest.raises(UsageError, match="'cat' is not a feature key"):
        graph.lineage("cat")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min": 7}, "min = 7 is out of range: -1 to 1"),
        ({"min": "abc"}, "min = 'abc' is not a number"),
        ({"hops": -1}, "hops = -1 is too small; give a whole number from 0 up"),
        ({"writer_min": 1.5}, "writer_min = 1.5 is out of range: -1 to 1"),
        ({"writers": "no"}, "writers = 'no' is not true or false"),
    ],
)
def test_a_value_out_of_range_is_refused(graph: Graph, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        graph.lineage("1/res/0", **arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize("key", ["1/res/" + "0" * 5000, "1/res/\u0663", "\u0661/res/3", "1/res/1234567890"])
def test_digits_of_a_key_are_ascii_and_few(graph: Graph, key: str) -> None:
    with pytest.raises(UsageError, match="is not a feature key; write layer/site/index"):
        graph.lineage(key)


@pytest.mark.thorough
def test_lineage_and_span_load_no_heavy_library(toy: Path) -> None:
    script = (
        "import sys, featgraph; from featgraph.lineage.lineage import span\n"
        f"graph = featgraph.open({str(toy)!r})\n"
        "assert graph.lineage('1/res/0').members and span(graph.store, '1/res/0', min=None)\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")

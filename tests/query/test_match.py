"""Patterns on the toy graph, whose answers a human can check."""

import pytest

from featgraph.query import run
from featgraph.store import Store

Rows = list[tuple[object, ...]]


def rows(store: Store, statement: str, **parameters: object) -> Rows:
    """The rows of a statement, floats rounded."""
    found = run(store, statement, parameters).rows
    return [tuple(round(value, 4) if isinstance(value, float) else value for value in row) for row in found]


def keys(store: Store, statement: str, **parameters: object) -> list[object]:
    return [row[0] for row in rows(store, f"{statement} ORDER BY 1", **parameters)]


# ---- nodes and edges


@pytest.mark.parametrize(
    "node",
    [
        "(a '1/res/2')",
        "(a $f)",
        "(a {key: '1/res/2'})",
        "(a {layer: 1, site: 'res', idx: 2})",
        "(a:res {layer: 1} WHERE a.idx = 2)",
        "(a IS res WHERE a.layer BETWEEN 1 AND 1 AND a.idx = 2)",
        "(a:res WHERE a.id = 22)",
        "(A:RES where A.LAYER = 1 and a.idx in (2))",
    ],
)
def test_a_node_is_found_by_any_of_its_properties(store: Store, node: str) -> None:
    given = {"f": "1/res/2"} if "$f" in node else {}
    assert keys(store, f"MATCH {node} RETURN a.key", **given) == ["1/res/2"]


def test_labels_may_be_alternatives(store: Store) -> None:
    assert rows(store, "MATCH (a:mlp|att) RETURN count(*), count(DISTINCT a.site)") == [(24, 2)]


def test_an_edge_has_the_columns_of_the_table_as_properties(store: Store) -> None:
    found = rows(
        store, "MATCH (a)-[e:mlp_res]->(b '1/res/3') RETURN a.key, e.kind, e.cosine, e.pearson, e.src"
    )
    assert found == [("1/mlp/0", "mlp_res", 0.9, 0.6, 16)]


def test_an_arrow_may_point_either_way(store: Store) -> None:
    down = keys(store, "MATCH (a)-[e]->(b '1/res/3') RETURN a.key")
    up = keys(store, "MATCH (b '1/res/3')<-[e]-(a) RETURN a.key")
    assert down == up == keys(store, "MATCH (b '1/res/3')<-(a) RETURN a.key")
    assert down == ["0/res/0", "0/res/2", "1/mlp/0"]


def test_an_edge_without_a_type_is_of_any_kind_repeated_or_not(store: Store) -> None:
    writers = ["0/mlp/1", "0/res/0", "1/mlp/1", "1/mlp/2", "1/res/0", "2/att/3"]
    assert keys(store, "MATCH (a)-[e]->{1,9}(b '2/res/0') RETURN a.key") == writers
    assert keys(store, "MATCH (a)-[e:res_res]->{1,9}(b '2/res/0') RETURN a.key") == ["0/res/0", "1/res/0"]
    only = keys(store, "MATCH (a)-[e WHERE e.kind = 'res_res']->+(b '2/res/0') RETURN a.key")
    assert only == ["0/res/0", "1/res/0"]


def test_a_threshold_holds_at_equality(store: Store) -> None:
    for value in ("0.8", "$min"):
        given = {"min": 0.8} if value == "$min" else {}
        found = keys(store, f"MATCH (a)-[e WHERE e.cosine >= {value}]->(b '2/res/1') RETURN a.key", **given)
        assert found == ["1/res/1", "1/res/2"]


def test_patterns_join_on_the_variables_they_share(store: Store) -> None:
    diamond = "MATCH (a)-[e]->(b)-[f]->(d), (a)-[g]->(c)-[h]->(d)"
    where = (
        "WHERE b.id < c.id AND e.cosine >= 0.7 AND f.cosine >= 0.7 AND g.cosine >= 0.7 AND h.cosine >= 0.7"
    )
    found = rows(store, f"{diamond} {where} RETURN a.key, b.key, c.key, d.key")
    assert found == [("0/res/1", "1/res/1", "1/res/2", "2/res/1")]


def test_patterns_without_a_shared_variable_give_every_pair(store: Store) -> None:
    assert rows(store, "MATCH (a:res {layer: 0}), (b:mlp {layer: 1}) RETURN count(*)") == [(16,)]


# ---- repeated edges and paths


@pytest.mark.parametrize(
    ("quantifier", "reached"),
    [
        ("{1}", ["1/res/1", "1/res/2"]),
        ("{2}", ["2/res/1", "2/res/1"]),
        ("{1,2}", ["1/res/1", "1/res/2", "2/res/1", "2/res/1"]),
        ("{2,}", ["2/res/1", "2/res/1"]),
        ("{,1}", ["0/res/1", "1/res/1", "1/res/2"]),
        ("*", ["0/res/1", "1/res/1", "1/res/2", "2/res/1", "2/res/1"]),
        ("+", ["1/res/1", "1/res/2", "2/res/1", "2/res/1"]),
        ("?", ["0/res/1", "1/res/1", "1/res/2"]),
        ("{0}", ["0/res/1"]),
        ("{7}", []),
        ("{1,1000000}", ["1/res/1", "1/res/2", "2/res/1", "2/res/1"]),
    ],
)
def test_a_quantifier_says_how_often_an_edge_repeats(
    store: Store, quantifier: str, reached: list[object]
) -> None:
    assert keys(store, f"MATCH (a '0/res/1')-[e]->{quantifier}(b) RETURN b.key") == reached


def test_a_path_tells_its_length_nodes_edges_and_strength(store: Store) -> None:
    statement = (
        "MATCH p = (a '1/mlp/0')-[w]->(b)-[e]->+(c) "
        "RETURN path_length(p), nodes(p), vertices(p), keys(p), weight(p), bottleneck(p), edges(p)"
    )
    length, nodes, vertices, names, weight, bottleneck, edges = run(store, statement).rows[0]
    assert (length, nodes, vertices, names) == (
        2,
        [16, 23, 35],
        [16, 23, 35],
        ["1/mlp/0", "1/res/3", "2/res/3"],
    )
    assert (weight, bottleneck) == (pytest.approx(0.27), pytest.approx(0.3))
    assert edges == [
        {"src": 16, "dst": 23, "cosine": pytest.approx(0.9)},
        {"src": 23, "dst": 35, "cosine": pytest.approx(0.3)},
    ]


def test_a_path_is_told_in_the_order_it_is_written(store: Store) -> None:
    assert rows(
        store, "MATCH p = (b '2/res/1')<-[e WHERE e.cosine > 0.7]-{2}(a) RETURN keys(p) ORDER BY 1"
    ) == [
        (["2/res/1", "1/res/1", "0/res/1"],),
        (["2/res/1", "1/res/2", "0/res/1"],),
    ]


def test_a_path_of_no_edges_has_weight_one_and_no_bottleneck(store: Store) -> None:
    columns = "weight(p), bottleneck(p), count(e), avg(e.cosine), edges(p)"
    assert rows(store, f"MATCH p = (a '0/res/0')-[e]->{{0}}(b) RETURN {columns}") == [
        (1.0, None, 0, None, [])
    ]


def test_a_repeated_edge_is_a_group_in_aggregates(store: Store) -> None:
    statement = (
        "MATCH (a '0/res/0')-[e:res_res]->{2}(b '2/res/1') "
        "RETURN count(e), min(e.cosine), max(e.cosine), avg(e.cosine), sum(e.cosine), product(e.cosine), "
        "list(e.kind)"
    )
    assert rows(store, statement) == [(2, 0.6, 1.0, 0.8, 1.6, 0.6, ["res_res", "res_res"])]


def test_a_group_may_be_tested_in_the_where(store: Store) -> None:
    where = "WHERE min(e.cosine) >= 0.9 AND path_length(p) = 2"
    assert rows(store, f"MATCH p = (a:res)-[e]->*(b) {where} RETURN keys(p)") == [
        (["0/res/0", "1/res/0", "2/res/0"],)
    ]


# ---- selectors


def test_best_is_the_strongest_path_between_two_features(store: Store) -> None:
    found = rows(store, "MATCH BEST p = (a '0/res/0')-[e]->+(b '2/res/1') RETURN keys(p), weight(p)")
    assert found == [(["0/res/0", "1/res/0", "2/res/1"], 0.6)]


def test_equally_good_paths_come_by_the_smaller_id(store: Store) -> None:
    statement = "MATCH BEST {} p = (a '0/res/1')-[e]->+(b '2/res/1') RETURN keys(p), weight(p)"
    first = (["0/res/1", "1/res/1", "2/res/1"], 0.64)
    second = (["0/res/1", "1/res/2", "2/res/1"], 0.64)
    assert rows(store, statement.format("")) == [first]
    assert sorted(rows(store, statement.format("2"))) == [first, second]
    assert sorted(rows(store, statement.format("9 BY min(cosine)"))) == [first, second]


@pytest.mark.parametrize("selector", ["ANY", "ANY SHORTEST", "SHORTEST 1", "BEST", "BEST 1 BY sum(cosine)"])
def test_one_path_per_pair_of_ends(store: Store, selector: str) -> None:
    found = keys(store, f"MATCH {selector} (a '0/res/1')-[e]->*(b) RETURN b.key")
    assert found == ["0/res/1", "1/res/1", "1/res/2", "2/res/1"]


def test_a_selector_may_stand_on_either_side_of_the_name(store: Store) -> None:
    one = rows(store, "MATCH ANY p = (a '0/res/1')-[e]->*(b) RETURN keys(p) ORDER BY ALL")
    assert one == rows(store, "MATCH p = ANY (a '0/res/1')-[e]->*(b) RETURN keys(p) ORDER BY ALL")


def test_a_selector_chooses_before_the_where_looks_inside(store: Store) -> None:
    statement = "MATCH ANY p = (a '0/res/1')-[e]->(m)-[f]->(b '2/res/1') {} RETURN m.key"
    assert keys(store, statement.format("")) == ["1/res/1"]
    assert keys(store, statement.format("WHERE m.key = '1/res/2'")) == []

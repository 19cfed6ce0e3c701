"""Patterns on the toy graph, whose answers a human can check, and everything around them in a statement."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from featgraph.errors import QueryError
from featgraph.query import explain, run
from featgraph.store import Store, open_store

Rows = list[tuple[object, ...]]


@pytest.fixture
def store(toy: Path) -> Iterator[Store]:
    with open_store(toy) as opened:
        yield opened


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


# ---- around a pattern


def test_a_pattern_is_a_table_in_sql(store: Store) -> None:
    statement = """
        with split as (from splits(min => 0.7))
        select s.key, t.child, t.cosine
        from split s
        join graph_table (
            match (a)-[e]->(b) where e.cosine >= 0.7
            columns (a.id, b.key as child, e.cosine)
        ) t using (id)
        where t.child in (select l.key from graph_table (match (l:res {layer: 1}) columns (l.key)) l)
        order by t.child
    """
    assert rows(store, statement) == [("0/res/1", "1/res/1", 0.8), ("0/res/1", "1/res/2", 0.8)]


def test_the_rest_of_a_statement_is_duckdbs(store: Store) -> None:
    statement = (
        "MATCH (a:res)-[e]->(b) WHERE e.cosine >= 0.5 "
        "RETURN DISTINCT a.layer, count(*) AS n GROUP BY ALL HAVING n > 1 ORDER BY n DESC, a.layer LIMIT 1"
    )
    assert rows(store, statement) == [(1, 4)]


def test_a_subquery_in_a_condition_has_names_of_its_own(store: Store) -> None:
    labelled = "exists (select 1 from label e where e.feature = a.id and e.text = 'sun')"
    assert keys(store, f"MATCH (a)-[e]->(b) WHERE {labelled} RETURN b.key") == ["2/res/3"]
    assert keys(store, f"MATCH (a:res WHERE {labelled}) RETURN a.key") == ["1/res/3"]


def test_lambdas_and_lists_in_a_condition_are_duckdbs(store: Store) -> None:
    condition = (
        "len(list_filter(a.top_tokens, lambda token: token = 'token2')) = 1 and a.top_tokens[2] = 'other2'"
    )
    assert keys(store, f"MATCH (a:res) WHERE {condition} RETURN a.key") == ["0/res/2", "1/res/2"]


def test_columns_are_named_by_what_they_are(store: Store) -> None:
    columns = "a.key, b.layer AS at, keys(p), avg(e.cosine), a.layer + 1, upper(a.site), count(e) n"
    found = run(store, f"MATCH p = (a)-[e]->{{1}}(b) RETURN {columns}").columns
    assert found == ["key", "at", "keys", "avg(e.cosine)", "a.layer + 1", "upper(a.site)", "n"]


def test_what_is_known_beforehand_is_no_bare_constant(store: Store) -> None:
    pattern = (
        "MATCH (a:res {layer: 1})-[e WHERE e.cosine > $least]->(b) RETURN a.layer, a.site, count(*) GROUP BY"
    )
    for grouping in ("ALL", "a.layer, a.site"):
        assert rows(store, f"{pattern} {grouping} ORDER BY a.layer", least=0) == [(1, "res", 5)]
        assert rows(store, f"{pattern} {grouping} ORDER BY a.layer", least=2) == []
    assert rows(store, "MATCH (a:mlp)->(b:mlp) RETURN a.layer, count(*) GROUP BY ALL") == []


def test_a_star_is_all_properties(store: Store) -> None:
    result = run(store, "MATCH (a '0/res/0')-[e:res_res {rank_out: 1}]->(b) RETURN a.*, e.*")
    assert result.columns[:2] == ["id", "key"]
    assert result.rows[0][:2] == (8, "0/res/0")
    assert "found_by" in result.columns


def test_nothing_is_an_answer_with_the_same_columns(store: Store) -> None:
    result = run(
        store, "MATCH p = (a:mlp)-[e]->{2,3}(b:mlp) RETURN a.key, keys(p), avg(e.cosine), edges(p), b.density"
    )
    assert result.rows == []
    assert result.types[:3] == ["VARCHAR", "VARCHAR[]", "DOUBLE"]


def test_comments_and_line_breaks_may_stand_anywhere(store: Store) -> None:
    statement = (
        "MATCH -- first\n (a /* the */ '0/res/0')\n-[ e -- edge\n ]-> (b)\n"
        "WHERE e.cosine -- x\n = 1.0 RETURN b.key -- end"
    )
    assert rows(store, statement) == [("1/res/0",)]


def test_words_of_the_language_in_strings_and_names_are_left_alone(store: Store) -> None:
    assert rows(
        store, "select 'MATCH (a)-->(b)' as match, \"graph_table\" from (select 1 as graph_table)"
    ) == [("MATCH (a)-->(b)", 1)]


# ---- EXPLAIN, limits


def test_explain_shows_the_sql_that_runs(store: Store) -> None:
    statement = "MATCH (a '0/res/1')-[e]->{1,2}(b) RETURN b.key"
    sql = explain(store, statement)
    assert run(store, f"EXPLAIN {statement}").rows == [(sql,)]
    assert sorted(run(store, sql).rows) == sorted(run(store, statement).rows)
    assert explain(store, "select 1") == "select 1"


def test_explain_analyze_of_a_pattern_is_duckdbs(store: Store) -> None:
    assert "explain_value" in run(store, "EXPLAIN ANALYZE MATCH (a '0/res/1') RETURN a.key").columns


def test_more_rows_than_may_be_are_refused(store: Store) -> None:
    with pytest.raises(
        QueryError, match="more than 10 rows; narrow it, add a LIMIT, or allow more with --max-rows"
    ):
        run(store, "MATCH (a:res) RETURN a.key", max_rows=10)
    assert len(run(store, "MATCH (a:res) RETURN a.key", max_rows=12)) == 12
    assert len(run(store, "MATCH (a:res) RETURN a.key", max_rows=None)) == 12


def test_more_paths_than_may_be_are_refused(store: Store) -> None:
    with pytest.raises(QueryError, match="follows more than 3 paths"):
        run(store, "MATCH (a)-[e]->{1,3}(b) RETURN count(*)", max_rows=3)


def test_the_statement_after_a_refused_one_runs(store: Store) -> None:
    for _ in range(3):
        with pytest.raises(QueryError):
            run(store, "select * from range(5000000)", max_rows=1000)
        assert run(store, "select 1").rows == [(1,)]


def test_a_variable_named_like_a_keyword_is_seen_inside_a_subquery(store: Store) -> None:
    count = '(select count(*) from edge x where x.dst = "where".id)'
    assert rows(store, f"MATCH (\"where\" '1/res/3') RETURN {count} AS n") == [(3,)]

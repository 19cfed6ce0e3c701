"""What stands around a pattern: SQL, names of columns, EXPLAIN, limits, threads."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from featgraph.errors import QueryError
from featgraph.query import explain, run
from featgraph.store import Store

Rows = list[tuple[object, ...]]


def rows(store: Store, statement: str, **parameters: object) -> Rows:
    """The rows of a statement, floats rounded."""
    found = run(store, statement, parameters).rows
    return [tuple(round(value, 4) if isinstance(value, float) else value for value in row) for row in found]


def keys(store: Store, statement: str, **parameters: object) -> list[object]:
    return [row[0] for row in rows(store, f"{statement} ORDER BY 1", **parameters)]


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
    columns = (
        "a.key, b.layer AS at, keys(p), avg(e.cosine), a.layer + 1, upper(a.site), count(e) n, "
        "case when a.layer = 1 then 2 end, a.layer is  null"
    )
    found = run(store, f"MATCH p = (a)-[e]->{{1}}(b) RETURN {columns}").columns
    assert found == [
        *("key", "at", "keys", "avg(e.cosine)", "a.layer + 1", "upper(a.site)", "n"),
        *("case when a.layer = 1 then 2 end", "a.layer is null"),
    ]


def test_what_is_known_beforehand_is_no_bare_constant(store: Store) -> None:
    pattern = (
        "MATCH (a:res {layer: 1})-[e WHERE e.cosine > $least]->(b) RETURN a.layer, a.site, count(*) GROUP BY"
    )
    for grouping in ("ALL", "a.layer, a.site"):
        assert rows(store, f"{pattern} {grouping} ORDER BY a.layer", least=0) == [(1, "res", 5)]
        assert rows(store, f"{pattern} {grouping} ORDER BY a.layer", least=2) == []
    assert rows(store, "MATCH (a:mlp)->(b:mlp) RETURN a.layer, count(*) GROUP BY ALL") == []


def test_distinct_on_keeps_one_row_each(store: Store) -> None:
    columns = "DISTINCT ON (a.id) a.key, b.key AS b ORDER BY a.id, e.cosine DESC"
    result = run(store, f"MATCH (a:res)-[e:res_res]->(b) RETURN {columns}")
    assert result.columns == ["key", "b"]
    assert result.rows[:2] == [("0/res/0", "1/res/0"), ("0/res/1", "1/res/1")]
    assert len({row[0] for row in result.rows}) == len(result) == 7


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


def test_a_quoted_name_never_meets_one_of_ours(store: Store) -> None:
    assert rows(store, "MATCH (\"node 1\" '0/res/1')-[]->()-[]->() RETURN count(*)") == [(2,)]
    named = "MATCH ()-[\"edge 1\"]->{2}(b '2/res/0'), ()->(b)"
    plain = "MATCH ()-[e]->{2}(b '2/res/0'), ()->(b)"
    assert rows(store, f'{named} RETURN sum(count("edge 1"))') == rows(store, f"{plain} RETURN sum(count(e))")


def test_a_variable_named_like_a_keyword_is_seen_inside_a_subquery(store: Store) -> None:
    count = '(select count(*) from edge x where x.dst = "where".id)'
    assert rows(store, f"MATCH (\"where\" '1/res/3') RETURN {count} AS n") == [(3,)]


def test_an_alias_that_is_also_a_variable_is_the_alias(store: Store) -> None:
    pattern = "MATCH (a:res)-[e:res_res]->(b)"
    grouped = rows(store, f"{pattern} RETURN a.layer AS a, count(*) AS n GROUP BY a ORDER BY a")
    assert grouped == [(0, 5), (1, 5)]
    best = rows(
        store, f"{pattern} RETURN a.key AS a, b.density AS d, e.cosine AS b ORDER BY b + 0, a LIMIT 1"
    )
    assert best == [("0/res/0", 0.25, 0.1)]


def test_a_path_may_be_called_path(store: Store) -> None:
    for selector in ("ANY", "BEST 3", "SHORTEST 2", ""):
        found = rows(
            store, f"MATCH {selector} path = (a '0/res/0')-[e]->{{1}}(b '1/res/0') RETURN keys(path)"
        )
        assert found == [(["0/res/0", "1/res/0"],)]


def test_a_key_is_read_as_commands_read_it(store: Store) -> None:
    assert len(rows(store, "from lineage(' 01/res/0')")) == len(rows(store, "from lineage('1/res/0')")) > 1
    assert rows(store, "MATCH (a ' 01/res/0') RETURN a.key") == [("1/res/0",)]


def test_a_union_goes_on_in_plain_sql(store: Store) -> None:
    statement = "MATCH (a '0/res/0') RETURN a.key UNION ALL SELECT f.key FROM feature f WHERE f.id = 9"
    assert rows(store, statement) == [("0/res/0",), ("0/res/1",)]
    other = "SELECT key FROM splits() UNION ALL FROM GRAPH_TABLE (MATCH (a '0/res/0') COLUMNS (a.key))"
    assert rows(store, other) == [("0/res/1",), ("0/res/0",)]


def test_a_lambda_ends_at_its_bracket(store: Store) -> None:
    condition = "len(list_filter([1], lambda b: b > 1)) > 0 OR b.layer = 2"
    assert len(rows(store, f"MATCH (a '1/res/0')->(b) WHERE {condition} RETURN b.key")) == 2


def test_a_verb_after_the_condition_of_a_join_is_a_table(store: Store) -> None:
    one = "select count(*) from feature f join edge e on e.src = f.id, components() c where c.id = f.id"
    other = "select count(*) from edge e join components() c on c.id = e.src"
    assert rows(store, one) == rows(store, other)


@pytest.mark.parametrize(
    "statement", ["explain (select 1)", "; explain select 1 ;", "explain (format json) select 1"]
)
def test_explain_takes_brackets_and_semicolons(store: Store, statement: str) -> None:
    assert run(store, statement).columns == ["explain_key", "explain_value"]


def test_threads_may_share_a_graph(store: Store) -> None:
    def ask(n: int) -> bool:
        return run(store, f"select {n} as n, count(*) from edge e, range({n})").rows[0][0] == n

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(1, 60)))


def test_numbers_of_numpy_are_numbers(store: Store) -> None:
    count = "select count(*) from edge where cosine = $value"
    for value in (np.float64(0.8), np.float32(0.8)):
        assert run(store, count, {"value": value}).rows == run(store, count, {"value": float(value)}).rows
    assert rows(store, "MATCH (a:res {layer: $layer, idx: 0}) RETURN a.key", layer=np.int64(1)) == [
        ("1/res/0",)
    ]


@pytest.mark.parametrize("limits", [{"timeout": 1e12}, {"timeout": float("inf")}, {"max_rows": 10**20}])
def test_a_limit_beyond_all_is_none(store: Store, limits: dict[str, Any]) -> None:
    assert run(store, "MATCH (a '0/res/0')-[e]->+(b) RETURN count(*)", **limits).rows == [(5,)]

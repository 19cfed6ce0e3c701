"""What a statement calls a table of its own never takes the place of what patterns and verbs read."""

from pathlib import Path

import pytest

from featgraph import store
from featgraph.query import VERBS, run

CALLS = {
    "lineage": "lineage('1/res/0')",
    "ancestors": "ancestors('2/res/0')",
    "descendants": "descendants('0/res/1')",
    "subgraph": "subgraph('1/res/0')",
    "paths": "paths('0/res/0', '2/res/0')",
    "neighbors": "neighbors('1/res/0')",
    "splits": "splits()",
    "merges": "merges()",
    "births": "births()",
    "deaths": "deaths()",
    "chains": "chains()",
    "components": "components()",
    "flow": "flow()",
    "similar": "similar('1/res/0', k => 2)",
    "search": "search('cat')",
    "edge": "GRAPH_TABLE (MATCH (a)-[e]->(b) COLUMNS (a.key, b.key as b, e.cosine))",
    "walk": "GRAPH_TABLE (MATCH p = (a '0/res/0')->{1,2}(b) COLUMNS (b.key, b.density, weight(p) as w))",
    "best": "GRAPH_TABLE (MATCH p = BEST 2 (a)-[e:res_res]->{1,2}(b) COLUMNS (a.key, keys(p) as k))",
    "row": "GRAPH_TABLE (MATCH (a:res WHERE a.density > 0.1) COLUMNS (a.key, a.density))",
}

TABLES = ("sae", "threshold", "feature", "edge", "pair", "example", "label", "meta")

FORMS = [
    "with edge as (select 1 as id)",
    "with recursive feature(id) as (select 1 union all select id + 1 from feature where id < 3)",
    "with edge\u200bas (select 1 as id), feature\u2060AS(select 1 as id), sae\ufeffas (select 1 as id)",
    'with "edge" as materialized (select 1 as id), EDGE_ as not materialized (select 1 as id)',
]


def test_every_verb_is_tried() -> None:
    assert set(VERBS) <= set(CALLS)


@pytest.mark.parametrize("call", CALLS)
def test_a_table_of_the_statement_is_not_read_in_place_of_the_graph(toy: Path, call: str) -> None:
    with store.open_store(toy) as opened:
        statement = f"select x.* from {CALLS[call]} x"
        answer = sorted(map(str, run(opened, statement).rows))
        assert answer
        plain = [f"{name}(src, dst, id) as (select 0, 1, 1)" for name in TABLES]
        for shadow in (f"with {', '.join(plain)}", *FORMS):
            shadowed = f"{shadow} {statement}"
            assert sorted(map(str, run(opened, shadowed).rows)) == answer, shadowed


def test_a_nested_with_does_not_either(toy: Path) -> None:
    with store.open_store(toy) as opened:
        inner = "with edge(src, dst, kind, cosine) as (select 0, 1, 'res_res', 0.9) from splits()"
        statement = f"with outside as ({inner}) select * from outside"
        assert run(opened, statement).rows == run(opened, "from splits()").rows


def test_the_statement_itself_reads_its_own_table(toy: Path) -> None:
    with store.open_store(toy) as opened:
        statement = "with edge as (select 7 as src) select edge.src, s.key from edge, splits() s"
        assert run(opened, statement).rows == [(7, "0/res/1")]


@pytest.mark.parametrize("blank", ["\u200b", "\u2060", "\ufeff", "\u00a0", "\u3000"])
def test_tables_that_a_pattern_makes_are_not_those_of_the_statement(toy: Path, blank: str) -> None:
    with store.open_store(toy) as opened:
        statement = (
            f"with step1{blank}as (select 99 as id), rows{blank}as (select 98 as id) "
            "select k from GRAPH_TABLE (MATCH (a '0/res/1')-[e]->{1,2}(b) "
            "WHERE not exists (select 1 from step1 where id = 99) COLUMNS (b.key as k))"
        )
        assert run(opened, statement).rows == []

"""Edges of kind far are there for patterns; no verb but neighbors follows them."""

import shutil
from pathlib import Path

import duckdb
import pytest

import featgraph
from featgraph.store.layout import DATABASE

VERBS = (
    "lineage('1/res/0', min => -1)",
    "subgraph('1/res/0', min => -1)",
    "ancestors('2/res/0', min => -1)",
    "descendants('0/res/0', min => -1)",
    "paths('0/res/0', '2/res/0', k => 20, min => -1, writer_min => -1)",
    "births(min => -1)",
    "deaths(min => -1)",
    "splits(min => -1)",
    "merges(min => -1)",
    "chains(min => -1)",
    "flow(min => -1)",
    "components(min => -1)",
)


@pytest.fixture
def with_far(toy: Path, tmp_path: Path) -> Path:
    """The toy graph with an edge over two layers."""
    path = Path(shutil.copytree(toy, tmp_path / "toy.featgraph"))
    with duckdb.connect(str(path / DATABASE)) as connection:
        connection.execute("""
            insert into edge by name
            select a.id as src, b.id as dst, 'far' as kind, 0.9 as cosine, 0.5 as attribution,
                1 as rank_out, 1 as rank_in, 'attribution' as found_by
            from feature a, feature b where a.key = '0/res/0' and b.key = '2/res/0'
        """)
        connection.execute("create or replace table edge as from edge order by src, dst")
        connection.execute("""
            insert into pair by name
            select a.number as src_sae, b.number as dst_sae, 'far' as kind, 1 as n_edges
            from sae a, sae b where a.layer = 0 and a.site = 'res' and b.layer = 2 and b.site = 'res'
        """)
    return path


def test_verbs_answer_as_without_it(toy: Path, with_far: Path) -> None:
    with featgraph.open(toy) as before, featgraph.open(with_far) as after:
        for verb in VERBS:
            statement = f"select * from {verb}"
            assert after.sql(statement).rows == before.sql(statement).rows, verb
        for _ in range(4):  # from the third on, memory answers
            assert after.lineage("0/res/0", min=-1).members == before.lineage("0/res/0", min=-1).members


def test_a_pattern_walks_it(with_far: Path) -> None:
    with featgraph.open(with_far) as graph:
        walked = graph.sql("MATCH (a)-[e:far]->(b) RETURN a.key, b.key, e.attribution")
    assert walked.rows == [("0/res/0", "2/res/0", 0.5)]


def test_neighbors_shows_it(with_far: Path) -> None:
    with featgraph.open(with_far) as graph:
        kinds = graph.sql("select kind from neighbors('2/res/0') where key = '0/res/0'").rows
    assert kinds == [("far",)]


def test_a_graph_without_any_says_how_to_add_them(toy: Path) -> None:
    with featgraph.open(toy) as graph, pytest.raises(featgraph.QueryError, match="attribute GRAPH FEATURE"):
        graph.sql("MATCH (a)-[e:far]->(b) RETURN a.key")

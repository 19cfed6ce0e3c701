"""Questions that come again are answered from memory, with the rows of SQL."""

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import featgraph
from featgraph import Graph, QueryError, UsageError
from featgraph.core.result import Result
from featgraph.lineage import in_memory
from featgraph.lineage.adjacency import Adjacency
from featgraph.lineage.in_memory import FROM_QUESTION, EdgeQuestions
from featgraph.query import explain, run, run_verb
from featgraph.store import Store, open_store
from helpers.memory import Memory, store_of
from helpers.random_graphs import EXACT, Shape, feature_graphs
from helpers.toy import build_toy

QUESTIONS: list[tuple[str, dict[str, object]]] = [
    ("lineage", {"f": "1/res/0"}),
    ("lineage", {"f": "1/res/0", "min": 0.8, "hops": 1, "writers": False}),
    ("lineage", {"f": "2/res/1", "writer_min": 0.1}),
    ("ancestors", {"f": "2/res/1", "min": 0.8}),
    ("descendants", {"f": "0/res/1", "hops": 1}),
    ("paths", {"a": "0/res/0", "b": "2/res/1", "min": 0.1, "k": 3}),
    ("components", {}),
    ("components", {"min": 0.9}),
]


@pytest.fixture
def by_sql(toy: Path) -> Iterator[Store]:
    """A store that never answers from memory."""
    with open_store(toy) as opened:
        opened.cached(EdgeQuestions).count = -1_000_000
        yield opened


@pytest.fixture
def warm(toy: Path) -> Iterator[Graph]:
    """A graph whose edges are in memory."""
    with featgraph.open(toy) as opened:
        assert opened.adjacency is opened.adjacency
        yield opened


def is_in_memory(store: Store) -> bool:
    return store.cached(EdgeQuestions).adjacency is not None


@pytest.mark.parametrize(("verb", "arguments"), QUESTIONS)
def test_memory_answers_a_verb_as_sql_does(
    warm: Graph, by_sql: Store, verb: str, arguments: dict[str, object]
) -> None:
    assert run_verb(warm.store, verb, arguments) == run_verb(by_sql, verb, arguments)
    assert not is_in_memory(by_sql)


@pytest.mark.parametrize("key", ["1/res/0", "2/res/1", "1/mlp/0", "0/res/3"])
@pytest.mark.parametrize("options", [{}, {"min": 0.8}, {"writers": False}, {"hops": 1, "writer_min": 0.1}])
def test_a_lineage_is_the_same_object_from_memory(
    warm: Graph, by_sql: Store, key: str, options: dict[str, float]
) -> None:
    assert warm.lineage(key, **options) == Graph(by_sql).lineage(key, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["from {}", "select * from {}", "SELECT *\n  FROM {} ;", "-- why\nfrom {}"])
def test_a_statement_that_is_one_verb_is_answered_from_memory(warm: Graph, by_sql: Store, form: str) -> None:
    statement = form.format("lineage('01/res/0', min => $min, hops => 2)")
    with patch.object(Store, "connection", None):
        answer = run(warm.store, statement, {"min": 0.5})
    assert answer == run(by_sql, statement, {"min": 0.5})


@pytest.mark.thorough
@pytest.mark.parametrize(
    "statement",
    [
        "select key from lineage('1/res/0')",
        "from lineage('1/res/0') limit 2",
        "from lineage('1/res/0'), splits()",
        "from lineage('1/res/' || 0)",
        "from ancestors('1/res/0') union all from descendants('1/res/0')",
        "explain from lineage('1/res/0')",
    ],
)
def test_all_other_statements_go_to_sql(toy: Path, by_sql: Store, statement: str) -> None:
    with open_store(toy) as store:
        for _ in range(FROM_QUESTION + 1):
            answer = run(store, statement)
        assert not is_in_memory(store)
        assert answer.columns == run(by_sql, statement).columns


def test_edges_are_read_with_the_third_question_whoever_asks(toy: Path) -> None:
    with featgraph.open(toy) as graph:
        graph.splits()
        seen = []
        for ask in (
            lambda: graph.ancestors("2/res/1"),
            lambda: graph.sql("from paths('0/res/0', '2/res/0')"),
            lambda: graph.lineage("1/res/0"),
        ):
            ask()
            seen.append(is_in_memory(graph.store))
    assert seen == [False, False, True]


def test_a_graph_of_very_many_edges_stays_on_disk(toy: Path) -> None:
    with patch.object(in_memory, "MOST_EDGES", 3), featgraph.open(toy) as graph:
        for _ in range(FROM_QUESTION + 1):
            graph.ancestors("2/res/1")
        assert not is_in_memory(graph.store)
        assert graph.adjacency
        assert is_in_memory(graph.store)


def test_sql_is_what_a_statement_is_explained_as(warm: Graph) -> None:
    assert explain(warm.store, "from lineage('1/res/0')") == "from lineage('1/res/0')"


def test_a_limit_of_rows_and_a_wrong_value_are_refused_as_by_sql(warm: Graph, by_sql: Store) -> None:
    for store in (warm.store, by_sql):
        with pytest.raises(QueryError, match="more than 2 rows"):
            run(store, "from lineage('1/res/0')", max_rows=2)
        with pytest.raises(UsageError, match="no feature '1/res/9'"):
            run_verb(store, "ancestors", {"f": "1/res/9"})


@pytest.mark.thorough
def test_a_new_build_is_read_anew(tmp_path: Path) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    with featgraph.open(path) as before:
        old = before.adjacency
    build_toy(path)
    with featgraph.open(path) as after:
        assert after.adjacency is not old


# ---- the edges among some features


def test_edges_among_features_and_their_degrees(warm: Graph) -> None:
    ids = [8, 20, 33]  # 0/res/0, 1/res/0, 2/res/1
    among = warm.adjacency.among(ids, 0.5)
    assert list(zip(among.src.tolist(), among.dst.tolist(), strict=True)) == [(8, 20), (20, 33)]
    assert among.cosine.tolist() == pytest.approx([1.0, 0.6])
    assert among.n_parents.tolist() == [0, 1, 3]
    assert among.n_children.tolist() == [1, 2, 0]


def test_no_features_have_no_edges(warm: Graph) -> None:
    assert [len(array) for array in warm.adjacency.among([])] == [0] * 5


def test_a_threshold_out_of_range_is_refused(warm: Graph) -> None:
    with pytest.raises(UsageError, match="min = 2 is out of range: -1 to 1"):
        warm.adjacency.among([8], 2)


@pytest.fixture(scope="module")
def memory() -> Iterator[Memory]:
    with Memory() as opened:
        yield opened


@pytest.mark.thorough
@settings(max_examples=60, deadline=None)
@given(
    data=st.data(), least=st.none() | st.sampled_from(EXACT), writer_min=st.none() | st.sampled_from(EXACT)
)
def test_edges_among_features_are_those_of_a_search_through_all(
    memory: Memory, data: st.DataObject, least: float | None, writer_min: float | None
) -> None:
    graph = data.draw(feature_graphs(Shape(least=2), EXACT))
    store = store_of(memory, graph)
    memory.connection.execute("update sae set threshold_high = 0.5")
    n = len(graph.features)
    ids = data.draw(st.lists(st.integers(0, n - 1), unique=True)) if n else []
    among = Adjacency.read(store).among(ids, least, writer_min=writer_min)
    residual = [
        (edge["src"], edge["dst"], edge["cosine"])
        for edge in graph.edges
        if edge["kind"] == "res_res" and edge["cosine"] >= (0.5 if least is None else least)
    ]
    written = [
        (edge["src"], edge["dst"], edge["cosine"])
        for edge in graph.edges
        if edge["kind"] != "res_res" and writer_min is not None and edge["cosine"] >= writer_min
    ]
    rows = [row for row in sorted([*residual, *written]) if row[0] in ids and row[1] in ids]
    columns = (among.src, among.dst, among.cosine)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == rows
    assert among.n_parents.tolist() == [sum(dst == id for _, dst, _ in residual) for id in ids]
    assert among.n_children.tolist() == [sum(src == id for src, _, _ in residual) for id in ids]
    assert all(column.dtype == np.int64 for column in (among.src, among.dst))


def test_the_rows_are_a_result_like_any_other(warm: Graph) -> None:
    assert isinstance(warm.adjacency.ancestors("2/res/1"), Result)

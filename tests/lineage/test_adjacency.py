"""The in-memory verbs: on the toy by hand, on random graphs against the macros and against brute force."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from math import prod
from operator import add
from pathlib import Path
from unittest.mock import patch

import duckdb
import networkx as nx
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import featgraph
from featgraph import Graph, StoreError, UsageError
from featgraph import store as stores
from featgraph.core.result import Result
from featgraph.lineage import edge_arrays
from featgraph.lineage.adjacency import Adjacency, components
from featgraph.query import run_verb
from featgraph.store import Store
from helpers.examples import examples
from helpers.memory import Memory, store_of
from helpers.random_graphs import EXACT, ROUNDED, FeatureGraph, Shape, feature_graphs
from helpers.toy import build_toy

SCORES: dict[str, Callable[[list[float]], float]] = {
    "product": prod,
    "sum": lambda cosines: reduce(add, cosines, 0.0),
    "min": lambda cosines: min(cosines, default=np.inf),
}


# ---- the toy, by hand


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("lineage", {"f": "1/res/0"}),
        ("lineage", {"f": "1/res/0", "min": 0.8, "hops": 1, "writers": False}),
        ("lineage", {"f": "1/res/0", "writer_min": 0.1}),
        ("lineage", {"f": "1/mlp/0"}),
        ("ancestors", {"f": "2/res/1", "min": 0.8}),
        ("ancestors", {"f": "0/res/1"}),
        ("descendants", {"f": "0/res/1", "hops": 1}),
        ("descendants", {"f": "0/res/0", "min": 0.1}),
        ("paths", {"a": "0/res/0", "b": "2/res/1", "min": 0.1}),
        ("paths", {"a": "0/mlp/1", "b": "2/res/0", "k": 2, "score": "min", "writer_min": 0.1}),
        ("paths", {"a": "1/res/0", "b": "1/res/0", "score": "min"}),
        ("components", {"min": 0.9}),
    ],
)
def test_rows_columns_and_types_are_those_of_the_verb(
    graph: Graph, verb: str, arguments: dict[str, object]
) -> None:
    with stores.open_store(graph.path) as by_sql:
        assert getattr(graph.adjacency, verb)(**arguments) == run_verb(by_sql, verb, arguments)


def test_the_adjacency_of_a_graph_is_read_once(graph: Graph) -> None:
    assert graph.adjacency is graph.adjacency


def test_equal_paths_come_in_order_of_their_features(graph: Graph) -> None:
    found = graph.adjacency.paths("0/res/1", "2/res/1", k=3)
    assert [(row["rank"], row["length"], row["keys"]) for row in found.dicts()] == [
        (1, 2, ["0/res/1", "1/res/1", "2/res/1"]),
        (2, 2, ["0/res/1", "1/res/2", "2/res/1"]),
    ]
    assert found.dicts()[0]["nodes"] == [9, 21, 33]


def test_a_path_says_what_it_scores_and_where_it_is_weakest(graph: Graph) -> None:
    [path] = graph.adjacency.paths("0/res/0", "2/res/1", score="sum").dicts()
    scored = [path["score"], path["weight"], path["bottleneck"]]
    np.testing.assert_allclose(np.array(scored, dtype=np.float64), [1.6, 0.6, 0.6], rtol=1e-6)


def test_a_module_feature_writes_before_its_path_goes_on(graph: Graph) -> None:
    [path] = graph.adjacency.paths("0/mlp/1", "2/res/1").dicts()
    assert path["keys"] == ["0/mlp/1", "0/res/0", "1/res/0", "2/res/1"]
    assert len(graph.adjacency.paths("0/mlp/1", "2/res/1", writer_min=0.8)) == 0


def test_no_path_leads_up_or_to_a_module_feature(graph: Graph) -> None:
    assert len(graph.adjacency.paths("2/res/1", "0/res/1")) == 0
    assert len(graph.adjacency.paths("0/res/0", "1/mlp/1", min=-1)) == 0


def test_components_are_what_hangs_together(graph: Graph) -> None:
    found = graph.adjacency.components()
    assert found == components(graph.store, min=None)
    assert found.rows == [
        (8, "0/res/0", 0, 8, 7),
        (9, "0/res/1", 0, 8, 7),
        (20, "1/res/0", 1, 8, 7),
        (21, "1/res/1", 1, 8, 7),
        (22, "1/res/2", 1, 8, 7),
        (32, "2/res/0", 2, 8, 7),
        (33, "2/res/1", 2, 8, 7),
    ]


def test_components_name_their_columns_and_types(graph: Graph) -> None:
    found = components(graph.store, min=1.1)
    assert found == Result(
        ["id", "key", "layer", "component", "n"], [], ["INTEGER", "VARCHAR", "INTEGER", "INTEGER", "INTEGER"]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"a": "1/res/9", "b": "2/res/1"}, "no feature '1/res/9'"),
        ({"a": "1/res/1", "b": "2/rse/1"}, "did you mean 'res'?"),
        ({"a": "1/res/1", "b": "2/res/1", "k": 0}, "k = 0 is too small; give a whole number from 1 up"),
        (
            {"a": "1/res/1", "b": "2/res/1", "score": "summ"},
            "no score 'summ'; did you mean 'sum'? scores are product, sum, min",
        ),
    ],
)
def test_a_wrong_call_is_refused(graph: Graph, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        graph.adjacency.paths(**arguments)  # type: ignore[arg-type]
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("verb", "arguments", "message"),
    [
        ("lineage", {"min": 7}, "min = 7 is out of range: -1 to 1"),
        ("lineage", {"writer_min": -2}, "writer_min = -2 is out of range"),
        ("lineage", {"hops": -1}, "hops = -1 is too small; give a whole number from 0 up"),
        ("ancestors", {"hops": -1}, "hops = -1 is too small"),
        ("descendants", {"hops": -3}, "hops = -3 is too small"),
        ("descendants", {"min": np.nan}, "min = nan is out of range"),
    ],
)
def test_a_value_out_of_range_is_refused_as_by_the_verb(
    graph: Graph, verb: str, arguments: dict[str, float], message: str
) -> None:
    told = []
    for ask in (getattr(graph.adjacency, verb), lambda **given: run_verb(graph.store, verb, given)):
        with pytest.raises(UsageError) as caught:
            ask(f="1/res/0", **arguments)
        told.append(str(caught.value))
    assert told[0] == told[1]
    assert message in told[0]


def test_a_damaged_database_is_named(tmp_path: Path) -> None:
    path = build_toy(tmp_path / "toy.featgraph")
    with duckdb.connect(str(path / "graph.duckdb")) as connection:
        connection.execute("alter table edge drop column cosine")
    with featgraph.open(path) as opened, pytest.raises(StoreError) as caught:
        Adjacency.read(opened.store)
    assert str(caught.value).startswith(f"cannot read {path / 'graph.duckdb'}: ")
    assert "; build it again" in str(caught.value)


# ---- random graphs


@pytest.fixture(scope="module")
def memory() -> Iterator[Memory]:
    with Memory() as opened:
        opened.connection.execute(
            (Path(stores.__file__).parent / "sql" / "verbs.sql").read_text(encoding="utf-8")
        )
        yield opened


@dataclass(frozen=True)
class Case:
    """A random graph with a threshold per SAE."""

    graph: FeatureGraph
    high: tuple[float, ...]

    def store(self, memory: Memory) -> Store:
        store = store_of(memory, self.graph)
        memory.connection.execute("update sae set threshold_high = $high[number + 1]", {"high": self.high})
        return store

    @property
    def keys(self) -> list[str]:
        return [str(feature["key"]) for feature in self.graph.features]

    def passing(self, least: float | None) -> dict[tuple[int, int], float]:
        """The residual edges that pass, by their ends."""
        saes = [sae for sae, (_, _, n) in enumerate(self.graph.saes) for _ in range(n)]
        return {
            (edge["src"], edge["dst"]): edge["cosine"]
            for edge in self.graph.edges
            if edge["kind"] == "res_res"
            and edge["cosine"] >= np.float32(self.high[saes[edge["dst"]]] if least is None else least)
        }

    def written(self, src: int, least: float) -> dict[tuple[int, int], float]:
        """The edges by which a module feature writes."""
        return {
            (edge["src"], edge["dst"]): edge["cosine"]
            for edge in self.graph.edges
            if edge["kind"] != "res_res" and edge["src"] == src and edge["cosine"] >= np.float32(least)
        }


@st.composite
def cases(draw: st.DrawFn, least: int = 2) -> Case:
    """least: smallest number of layers."""
    cosines = draw(st.sampled_from([EXACT, ROUNDED]))
    graph = draw(feature_graphs(Shape(least=least), cosines))
    assume(graph.features)
    return Case(graph, draw(st.tuples(*[st.sampled_from(cosines)] * len(graph.saes))))


on_random_graphs = settings(
    max_examples=examples(40),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
thresholds = st.none() | st.sampled_from([*EXACT, *ROUNDED])
writer_thresholds = st.sampled_from([*EXACT, *ROUNDED])
hops = st.none() | st.integers(0, 4)
few = st.sampled_from([0, 1, edge_arrays.FEW])
"""Every way of going on must give the same, whatever number of features it is meant for."""


def same(found: Result, rows: Sequence[tuple[object, ...]]) -> None:
    assert [row[:-1] for row in found.rows] == [row[:-1] for row in rows]
    assert [row[-1] for row in found.rows] == pytest.approx([row[-1] for row in rows], rel=1e-6)


def test_a_writer_stands_beyond_the_first_of_two_that_it_writes_alike(memory: Memory) -> None:
    saes = ((0, "res", 1), (1, "mlp", 1), (1, "res", 1), (2, "res", 1))
    case = Case(FeatureGraph(saes, ((0, 2, 0.5), (2, 3, 0.5), (1, 2, 0.25), (1, 3, 0.5))), (0.5,) * 4)
    found = Adjacency.read(case.store(memory)).lineage("0/res/0")
    assert found.rows[1] == (1, "1/mlp/0", 1, "mlp", 0, 2, 0.125)
    same(found, memory.connection.execute("from lineage('0/res/0')").fetchall())


def test_a_path_over_a_cosine_of_zero_or_less_has_no_product(memory: Memory) -> None:
    saes = ((0, "res", 1), (1, "res", 2), (2, "res", 1))
    edges = ((0, 1, 0.0), (0, 2, -0.5), (1, 3, 0.5), (2, 3, -0.5))
    adjacency = Adjacency.read(Case(FeatureGraph(saes, edges), (0.5,) * 3).store(memory))
    assert len(adjacency.paths("0/res/0", "2/res/0", k=2, min=-1)) == 0
    assert [
        row["score"] for row in adjacency.paths("0/res/0", "2/res/0", k=2, min=-1, score="sum").dicts()
    ] == [
        0.5,
        -1.0,
    ]


def test_links_of_a_feature_come_strongest_first() -> None:
    rng = np.random.default_rng(0)
    src, dst = rng.integers(0, 50, (2, 2000), dtype=np.int32)
    cosines = rng.choice(np.linspace(-1, 1, 41, dtype=np.float32), 2000)
    found = edge_arrays.EdgeArrays.of(50, src, dst, cosines, down=True)
    for node in range(50):
        mine = found.cosines[found.starts[node] : found.starts[node + 1]]
        np.testing.assert_array_equal(mine, -np.sort(-cosines[src == node]))


@pytest.mark.thorough
@on_random_graphs
@given(case=cases(), data=st.data(), least=thresholds, far=hops, few=few)
def test_what_is_reached_is_what_the_macros_reach(
    memory: Memory, case: Case, data: st.DataObject, least: float | None, far: int | None, few: int
) -> None:
    adjacency = Adjacency.read(case.store(memory))
    asked = {"f": data.draw(st.sampled_from(case.keys)), "min": least, "hops": far}
    for verb in ("ancestors", "descendants"):
        with patch.object(edge_arrays, "FEW", few):
            found = getattr(adjacency, verb)(**asked)
        rows = memory.connection.execute(f"from {verb}($f, min := $min, hops := $hops)", asked).fetchall()
        same(found, rows)


@pytest.mark.thorough
@on_random_graphs
@given(
    case=cases(),
    data=st.data(),
    least=thresholds,
    far=hops,
    writers=st.booleans(),
    writer_min=writer_thresholds,
    few=few,
)
def test_a_lineage_is_that_of_the_macro(
    memory: Memory,
    case: Case,
    data: st.DataObject,
    least: float | None,
    far: int | None,
    writers: bool,
    writer_min: float,
    few: int,
) -> None:
    adjacency = Adjacency.read(case.store(memory))
    key = data.draw(st.sampled_from(case.keys))
    asked = {"min": least, "hops": far, "writers": writers, "writer_min": writer_min}
    with patch.object(edge_arrays, "FEW", few):
        found = adjacency.lineage(key, **asked)  # type: ignore[arg-type]
    named = ", ".join(f"{name} := ${name}" for name in asked)
    same(found, memory.connection.execute(f"from lineage($f, {named})", {"f": key, **asked}).fetchall())


def path_edges(edges: dict[tuple[int, int], float], a: int) -> list[list[int]]:
    """Every way from one feature on."""
    return [[a]] + [[a, *way] for start, end in edges if start == a for way in path_edges(edges, end)]


@pytest.mark.thorough
@on_random_graphs
@given(
    case=cases(least=3),
    data=st.data(),
    k=st.integers(1, 5),
    least=st.sampled_from([None, -0.25, 0.1, 0.25]),
    by=st.sampled_from(list(SCORES)),
    writer_min=writer_thresholds,
)
def test_the_best_paths_are_the_first_of_all_in_order(
    memory: Memory, case: Case, data: st.DataObject, k: int, least: float | None, by: str, writer_min: float
) -> None:
    a = data.draw(st.sampled_from(sorted({src for src, _, _ in case.graph.links} or {0})))
    edges = case.passing(least) | case.written(a, writer_min)
    if by == "product":
        edges = {ends: cosine for ends, cosine in edges.items() if cosine > 0}

    def score(way: list[int]) -> float:
        return SCORES[by]([edges[ends] for ends in pairwise(way)])

    def place(way: list[int]) -> tuple[float, int, list[float]]:
        """Score, length, then from the end: the feature before, and the score of the way to it."""
        before = [way[:length] for length in range(len(way) - 1, 0, -1)]
        tie = [value for prefix in before for value in (prefix[-1], -score(prefix))]
        return -score(way), len(way), tie

    adjacency = Adjacency.read(case.store(memory))
    asked = {"k": k, "min": least, "score": by, "writer_min": writer_min}
    named = ", ".join(f"{name} := ${name}" for name in asked)
    ordered = sorted(path_edges(edges, a), key=place)
    for b, key in enumerate(case.keys):
        expected = [way for way in ordered if way[-1] == b][:k]
        found = adjacency.paths(case.keys[a], key, **asked)  # type: ignore[arg-type]
        assert [row["nodes"] for row in found.dicts()] == expected
        assert [row["score"] for row in found.dicts()] == pytest.approx([score(way) for way in expected])
        assert [row["rank"] for row in found.dicts()] == list(range(1, len(expected) + 1))
    key = data.draw(st.sampled_from([case.keys[way[-1]] for way in ordered]))
    rows = memory.connection.execute(
        f"from paths($a, $b, {named})", {"a": case.keys[a], "b": key, **asked}
    ).fetchall()
    assert adjacency.paths(case.keys[a], key, **asked).rows == rows  # type: ignore[arg-type]


@pytest.mark.thorough
@on_random_graphs
@given(case=cases(), least=thresholds)
def test_components_are_those_that_networkx_finds(memory: Memory, case: Case, least: float | None) -> None:
    parts = list(nx.weakly_connected_components(nx.DiGraph(case.passing(least).keys())))
    expected = sorted((min(part), node, len(part)) for part in parts for node in part)
    store = case.store(memory)
    found = Adjacency.read(store).components(min=least)
    assert [(row["component"], row["id"], row["n"]) for row in found.dicts()] == expected
    assert [row["key"] for row in found.dicts()] == [case.keys[node] for _, node, _ in expected]
    assert components(store, min=least) == found

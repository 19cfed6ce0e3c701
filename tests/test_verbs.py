"""The verbs of `verbs.sql`: on the toy against answers by hand, on random graphs against brute force."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import featgraph
from featgraph.errors import UsageError
from featgraph.query import VERBS, run, run_verb
from featgraph.store import Store, open_store
from layered import COSINES, IDS, KEYS, LAYERS, RESIDUAL, SLABS, Layered, layer, layered

Rows = list[tuple[object, ...]]


@pytest.fixture
def store(toy: Path) -> Iterator[Store]:
    with open_store(toy) as opened:
        yield opened


def answer(store: Store, verb: str, **arguments: object) -> Rows:
    """The rows of a verb, floats rounded."""
    rows = run_verb(store, verb, arguments).rows
    return [tuple(round(value, 4) if isinstance(value, float) else value for value in row) for row in rows]


def columns(store: Store, verb: str, **arguments: object) -> list[str]:
    return run_verb(store, verb, arguments).columns


# ---- the toy, by hand


def test_the_columns_are_those_of_the_contract(store: Store) -> None:
    reached = ["id", "key", "layer", "site", "idx", "distance", "weight"]
    for verb in ("lineage", "ancestors", "descendants"):
        assert columns(store, verb, f="1/res/0") == reached
    for verb in ("splits", "merges"):
        assert columns(store, verb) == ["id", "key", "n", "members", "weights"]
    assert columns(store, "births") == ["id", "key", "layer", "origin"]
    assert columns(store, "deaths") == ["id", "key", "layer"]
    assert columns(store, "subgraph", f="1/res/0") == ["src", "dst", "kind", "cosine"]


def test_descendants_are_what_a_feature_becomes(store: Store) -> None:
    assert answer(store, "descendants", f="0/res/1") == [
        (21, "1/res/1", 1, "res", 1, 1, 0.8),
        (22, "1/res/2", 1, "res", 2, 1, 0.8),
        (33, "2/res/1", 2, "res", 1, 2, 0.64),
    ]


def test_ancestors_are_where_a_feature_comes_from(store: Store) -> None:
    assert answer(store, "ancestors", f="2/res/1", min=0.7) == [
        (9, "0/res/1", 0, "res", 1, 2, 0.64),
        (21, "1/res/1", 1, "res", 1, 1, 0.8),
        (22, "1/res/2", 1, "res", 2, 1, 0.8),
    ]


def test_hops_limit_how_far_a_lineage_goes(store: Store) -> None:
    assert [row[1] for row in answer(store, "descendants", f="0/res/1", hops=1)] == ["1/res/1", "1/res/2"]
    assert answer(store, "descendants", f="0/res/1", hops=0) == []


def test_a_lineage_holds_the_seed_both_ways_and_the_writers(store: Store) -> None:
    assert answer(store, "lineage", f="1/res/0") == [
        (5, "0/mlp/1", 0, "mlp", 1, 2, 0.7),
        (8, "0/res/0", 0, "res", 0, 1, 1.0),
        (17, "1/mlp/1", 1, "mlp", 1, 1, 0.3),
        (20, "1/res/0", 1, "res", 0, 0, 1.0),
        (27, "2/att/3", 2, "att", 3, 2, 0.26),
        (32, "2/res/0", 2, "res", 0, 1, 1.0),
        (33, "2/res/1", 2, "res", 1, 1, 0.6),
    ]


def test_a_lineage_without_writers_is_residual_only(store: Store) -> None:
    rows = answer(store, "lineage", f="1/res/0", writers=False)
    assert [row[1] for row in rows] == ["0/res/0", "1/res/0", "2/res/0", "2/res/1"]


def test_writers_pass_a_threshold_of_their_own(store: Store) -> None:
    rows = answer(store, "lineage", f="1/res/0", writer_min=0.1, hops=0)
    assert [row[1] for row in rows] == ["1/mlp/1", "1/mlp/2", "1/res/0"]
    assert len(answer(store, "lineage", f="1/res/0", writer_min=0.3, hops=0)) == 2


def test_a_dead_or_lonely_feature_is_its_own_lineage(store: Store) -> None:
    assert answer(store, "lineage", f="0/res/3") == [(11, "0/res/3", 0, "res", 3, 0, 1.0)]


def test_a_subgraph_holds_the_edges_of_a_lineage(store: Store) -> None:
    assert answer(store, "subgraph", f="1/res/0") == [
        (5, 8, "mlp_res", 0.7),
        (8, 20, "res_res", 1.0),
        (17, 20, "mlp_res", 0.3),
        (20, 32, "res_res", 1.0),
        (20, 33, "res_res", 0.6),
        (27, 32, "att_res", 0.26),
    ]


def test_a_split_has_two_children_whose_best_parent_it_is(store: Store) -> None:
    assert answer(store, "splits", min=0.7) == [
        (9, "0/res/1", 2, ["1/res/1", "1/res/2"], pytest.approx([0.8, 0.8]))
    ]
    assert answer(store, "splits", layer=1) == []


def test_a_merge_has_two_parents_whose_best_child_it_is(store: Store) -> None:
    assert answer(store, "merges") == [(33, "2/res/1", 2, ["1/res/1", "1/res/2"], pytest.approx([0.8, 0.8]))]
    assert answer(store, "merges", layer=1) == []


def test_a_birth_has_no_parent_and_tells_its_writer(store: Store) -> None:
    assert answer(store, "births") == [
        (23, "1/res/3", 1, "mlp"),
        (34, "2/res/2", 2, "unexplained"),
        (35, "2/res/3", 2, "unexplained"),
    ]
    assert answer(store, "births", min=0.3) == [(34, "2/res/2", 2, "unexplained")]


def test_a_death_has_no_child(store: Store) -> None:
    assert answer(store, "deaths") == [(10, "0/res/2", 0), (11, "0/res/3", 0), (23, "1/res/3", 1)]
    assert answer(store, "deaths", layer=0, min=0.3) == [(11, "0/res/3", 0)]


def test_to_persist_is_to_be_the_best_of_both_ends(store: Store) -> None:
    rows = run(store, "select src, dst from persists() order by src").rows
    assert rows == [(8, 20), (9, 21), (20, 32), (21, 33)]


def test_a_threshold_holds_at_equality_however_it_is_given(store: Store) -> None:
    for value in (0.8, "0.8"):
        assert run(store, "select count(*) from splits(min := $min)", {"min": value}).rows == [(1,)]
    assert run(store, "select count(*) from splits(min := 0.8)").rows == [(1,)]


def test_verbs_stand_wherever_a_table_may(store: Store) -> None:
    statement = """
        with born as (from births(min := 0.5))
        select l.layer, count(*) as n, count(b.id) as n_born
        from lineage('1/res/3', min := 0.3) l
        left join born b using (id)
        where l.site = 'res'
        group by l.layer
        order by l.layer
    """
    assert run(store, statement).rows == [(0, 1, 0), (1, 1, 1), (2, 1, 1)]


def test_another_client_can_use_the_verbs_of_the_file(store: Store) -> None:
    with duckdb.connect(str(store.database), read_only=True) as client:
        assert len(client.execute("from lineage('1/res/0', min := 0.3)").fetchall()) == 7


def test_the_python_door_and_the_verb_agree(toy: Path, store: Store) -> None:
    with featgraph.open(toy) as graph:
        members = graph.lineage("1/res/0").members
    assert [member.key for member in members] == [row[1] for row in answer(store, "lineage", f="1/res/0")]


@pytest.mark.parametrize(
    ("verb", "arguments", "message"),
    [
        ("linage", {}, "no verb 'linage'; did you mean 'lineage'?"),
        ("splits", {"mn": 0.5}, "splits takes no 'mn'; did you mean 'min'?"),
        ("lineage", {"f": "1/res/9"}, "no feature '1/res/9'"),
        ("lineage", {}, "'' is not a feature key"),
    ],
)
def test_a_wrong_call_is_refused(store: Store, verb: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        run_verb(store, verb, arguments)
    assert message in str(caught.value)


# ---- random graphs, by brute force


class Database:
    """A graph in memory, verbs included, that random graphs are put into."""

    def __init__(self) -> None:
        package = Path(featgraph.__file__).parent
        self.connection = duckdb.connect()
        self.connection.execute((package / "schema.sql").read_text())
        self.connection.execute((package / "verbs.sql").read_text())
        for number, (at, site, n) in enumerate(SLABS):
            first = sum(size for _, _, size in SLABS[:number])
            self.connection.execute(
                "insert into sae (slab, layer, site, first_id, n_features) values (?, ?, ?, ?, ?)",
                [number, at, site, first, n],
            )

    def ask(self, statement: str, **parameters: object) -> Rows:
        return self.connection.execute(statement, parameters).fetchall()

    def load(self, graph: Layered) -> None:
        self.connection.execute("truncate feature; truncate edge")
        self.ask("update sae set threshold_high = $high[layer + 1]", high=graph.high)
        scores = {
            f"s_{site}": [graph.best(key, f"{site}_res") for key in KEYS] for site in ("res", "mlp", "att")
        }
        self.fill(
            "feature",
            id=list(IDS.values()),
            key=KEYS,
            layer=[layer(key) for key in KEYS],
            site=[key.split("/")[1] for key in KEYS],
            idx=[int(key.split("/")[2]) for key in KEYS],
            **scores,
        )
        edges = sorted(graph.edges, key=lambda e: (IDS[e.src], IDS[e.dst]))
        self.fill(
            "edge",
            src=[IDS[e.src] for e in edges],
            dst=[IDS[e.dst] for e in edges],
            kind=[e.kind for e in edges],
            cosine=[e.cosine for e in edges],
            rank_out=[graph.rank_out(e) for e in edges],
            rank_in=[graph.rank_in(e) for e in edges],
        )

    def fill(self, table: str, **values: object) -> None:
        unnested = ", ".join(f"unnest(${name})" for name in values)
        self.ask(f"insert into {table} ({', '.join(values)}) select {unnested}", **values)

    def close(self) -> None:
        """Close, and let go: whatever still refers to this object at exit must not hold a connection."""
        self.connection.close()
        del self.connection


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    opened = Database()
    yield opened
    opened.close()


on_random_graphs = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
thresholds = st.none() | COSINES
hops = st.none() | st.integers(0, 3)


@on_random_graphs
@given(graph=layered(), key=st.sampled_from(RESIDUAL), least=thresholds, far=hops)
def test_ancestors_and_descendants_are_all_that_is_reached(
    database: Database, graph: Layered, key: str, least: float | None, far: int | None
) -> None:
    database.load(graph)
    for verb, up in (("ancestors", True), ("descendants", False)):
        asked = {"f": key, "min": least, "hops": far}
        rows = database.ask(f"from {verb}($f, min := $min, hops := $hops)", **asked)
        expected = graph.reached(key, least, far, up)
        assert [row[1] for row in rows] == sorted(expected, key=IDS.__getitem__)
        assert {row[1]: (row[5], row[6]) for row in rows} == {
            k: pytest.approx(v) for k, v in expected.items()
        }


@on_random_graphs
@given(graph=layered(), key=st.sampled_from(KEYS), least=thresholds, far=hops, writer=COSINES)
def test_a_lineage_is_both_ways_and_the_writers_of_each_member(
    database: Database,
    graph: Layered,
    key: str,
    least: float | None,
    far: int | None,
    writer: float,
) -> None:
    database.load(graph)
    arguments = "$f, min := $min, hops := $hops, writer_min := $writer_min"
    asked = {"f": key, "min": least, "hops": far, "writer_min": writer}
    rows = database.ask(f"from lineage({arguments})", **asked)
    expected = graph.lineage(key, least, far, writer)
    assert [row[1] for row in rows] == sorted(expected, key=IDS.__getitem__)
    assert {row[1]: (row[5], row[6]) for row in rows} == {k: pytest.approx(v) for k, v in expected.items()}
    edges = database.ask(f"from subgraph({arguments})", **asked)
    assert [row[:2] for row in edges] == graph.subgraph(key, least, far, writer)


@on_random_graphs
@given(graph=layered(), least=thresholds)
def test_splits_and_merges_count_best_ends_only(
    database: Database, graph: Layered, least: float | None
) -> None:
    database.load(graph)
    for verb, expected in (("splits", graph.splits(least)), ("merges", graph.merges(least))):
        rows = database.ask(f"from {verb}(min := $min)", min=least)
        assert [(row[1], row[2], row[3]) for row in rows] == [(k, len(v), v) for k, v in expected.items()]


@on_random_graphs
@given(graph=layered(), least=thresholds)
def test_births_and_deaths_are_features_without_a_passing_edge(
    database: Database, graph: Layered, least: float | None
) -> None:
    database.load(graph)
    births = database.ask("from births(min := $min)", min=least)
    assert [(row[1], row[3]) for row in births] == list(graph.births(least).items())
    deaths = database.ask("from deaths(min := $min)", min=least)
    assert [row[1] for row in deaths] == graph.deaths(least)


@on_random_graphs
@given(graph=layered(), least=thresholds, at=st.integers(0, LAYERS))
def test_a_layer_cuts_events_down_to_its_own(
    database: Database, graph: Layered, least: float | None, at: int
) -> None:
    database.load(graph)
    for verb in ("splits", "merges", "births", "deaths"):
        every = database.ask(f"from {verb}(min := $min)", min=least)
        asked = {"min": least, "layer": at}
        some = database.ask(f"from {verb}(min := $min, layer := $layer)", **asked)
        assert some == [row for row in every if layer(str(row[1])) == at]


@on_random_graphs
@given(graph=layered(), least=thresholds)
def test_persisting_edges_are_the_best_of_both_ends(
    database: Database, graph: Layered, least: float | None
) -> None:
    database.load(graph)
    statement = "select src, dst from persists(min := $min) order by src, dst"
    assert database.ask(statement, min=least) == graph.persists(least)


def test_every_verb_of_the_table_is_a_macro_with_those_arguments(store: Store) -> None:
    rows = run(
        store, "select function_name, parameters from duckdb_functions() where function_type = 'table_macro'"
    ).rows
    macros = {str(name): list(parameters) for name, parameters in rows}  # type: ignore[call-overload]
    assert {verb: macros.get(verb) for verb in VERBS} == {verb: list(names) for verb, names in VERBS.items()}

"""The macros of `verbs.sql` on random graphs against brute force: `layered` says what each must answer."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import featgraph
from featgraph.store.database import fill_pairs
from helpers.examples import examples
from helpers.layered import (
    COSINES,
    IDS,
    KEYS,
    LAYERS,
    RESIDUAL,
    SAES,
    SIGNED,
    Edge,
    Layered,
    dense,
    layer,
    layered,
)

Rows = list[tuple[object, ...]]
Measured = Mapping[tuple[str, str], tuple[int | None, float | None, float | None, float | None]]
"""Per edge: n_both, necessity, sufficiency, pearson."""


class Database:
    """A graph in memory, verbs included, that random graphs are put into."""

    def __init__(self) -> None:
        package = Path(featgraph.__file__).parent / "store" / "sql"
        self.connection = duckdb.connect(config={"threads": 1})
        self.connection.execute((package / "schema.sql").read_text())
        self.connection.execute((package / "verbs.sql").read_text())
        for number, (at, site, n) in enumerate(SAES):
            first = sum(size for _, _, size in SAES[:number])
            self.connection.execute(
                "insert into sae (number, layer, site, first_id, n_features) values (?, ?, ?, ?, ?)",
                [number, at, site, first, n],
            )

    def ask(self, statement: str, **parameters: object) -> Rows:
        return self.connection.execute(statement, parameters).fetchall()

    def load(self, graph: Layered) -> None:
        self.connection.execute("truncate feature; truncate edge; truncate pair")
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
        fill_pairs(self.connection)

    def witness(self, measured: Measured, dead: set[str]) -> None:
        """Give the edges of a graph that is loaded their co-activation, and say which features never fire."""
        columns = ("src", "dst", "n_both", "necessity", "sufficiency", "pearson")
        rows = [(IDS[src], IDS[dst], *found) for (src, dst), found in measured.items()]
        self.connection.execute(
            f"create or replace temp table measured ({', '.join(f'{c} float' for c in columns)})"
        )
        for row in rows:
            self.connection.execute("insert into measured values (?, ?, ?, ?, ?, ?)", list(row))
        chosen = ", ".join(f"{name} = m.{name}" for name in columns[2:])
        self.ask(f"update edge set {chosen} from measured m where edge.src = m.src and edge.dst = m.dst")
        self.ask("update feature set density = case when key in $dead then 0 end", dead=sorted(dead))

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
    max_examples=examples(30),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
thresholds = st.none() | COSINES
hops = st.none() | st.integers(0, 3)


@on_random_graphs
@given(graph=layered() | dense(), key=st.sampled_from(RESIDUAL), least=thresholds, far=hops)
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
@given(graph=layered() | dense(), key=st.sampled_from(KEYS), least=thresholds, far=hops, writer=COSINES)
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
@given(graph=layered() | dense(), least=thresholds)
def test_splits_and_merges_count_best_ends_only(
    database: Database, graph: Layered, least: float | None
) -> None:
    database.load(graph)
    for verb, expected in (("splits", graph.splits(least)), ("merges", graph.merges(least))):
        rows = database.ask(f"from {verb}(min := $min)", min=least)
        assert [(row[1], row[2], row[3]) for row in rows] == [(k, len(v), v) for k, v in expected.items()]


@on_random_graphs
@given(graph=layered() | dense(), least=thresholds)
def test_births_and_deaths_are_features_without_a_passing_edge(
    database: Database, graph: Layered, least: float | None
) -> None:
    database.load(graph)
    births = database.ask("from births(min := $min)", min=least)
    assert [(row[1], row[3]) for row in births] == list(graph.births(least).items())
    deaths = database.ask("from deaths(min := $min)", min=least)
    assert [row[1] for row in deaths] == graph.deaths(least)


@pytest.mark.thorough
@on_random_graphs
@given(graph=layered() | dense(), least=thresholds, at=st.integers(0, LAYERS))
def test_a_layer_cuts_events_down_to_its_own(
    database: Database, graph: Layered, least: float | None, at: int
) -> None:
    database.load(graph)
    for verb in ("splits", "merges", "births", "deaths"):
        every = database.ask(f"from {verb}(min := $min)", min=least)
        asked = {"min": least, "layer": at}
        some = database.ask(f"from {verb}(min := $min, layer := $layer)", **asked)
        assert some == [row for row in every if layer(str(row[1])) == at]


@pytest.mark.thorough
@on_random_graphs
@given(graph=layered() | dense(), least=thresholds, data=st.data())
def test_events_by_evidence_are_those_of_the_links_that_fire_together(
    database: Database, graph: Layered, least: float | None, data: st.DataObject
) -> None:
    low = data.draw(st.sampled_from([0.125, 0.25]))
    shares, pearson = st.sampled_from([0.0, 0.1, 0.2, 0.5]), st.sampled_from([-0.1, 0.1, 0.5])
    counted = st.tuples(st.just(7), shares, shares, pearson)
    never = st.sampled_from([(0, None, 0.0, None), (None, None, None, None)])
    residual = [e for e in graph.edges if e.kind == "res_res"]
    measured = {(e.src, e.dst): data.draw(counted | never) for e in residual}
    dead = data.draw(st.sets(st.sampled_from(RESIDUAL), max_size=4))

    def passes(e: Edge) -> bool:
        n_both, necessity, sufficiency, correlation = measured[e.src, e.dst]
        if n_both is None:
            return e.cosine >= graph.tau(e.dst, least)
        most = max(necessity or 0, sufficiency or 0)
        return e.cosine >= (low if least is None else least) and most >= 0.2 and (correlation or 0) >= 0.1

    database.load(graph)
    database.witness(measured, dead)
    database.ask("update sae set threshold_low = $low", low=low)
    linked = Layered(tuple(filter(passes, residual)), graph.high)
    asked = "(min := $min, by := 'coactive')"
    for verb, forks in (("splits", linked.splits(-1)), ("merges", linked.merges(-1))):
        rows = database.ask(f"from {verb}{asked}", min=least)
        assert [(row[1], row[2], row[3]) for row in rows] == [(k, len(v), v) for k, v in forks.items()]
    births = [(row[1], row[3]) for row in database.ask(f"from births{asked}", min=least)]
    assert births == [(k, graph.origin(k, least)) for k in linked.births(-1) if k not in dead]
    deaths = [row[1] for row in database.ask(f"from deaths{asked}", min=least)]
    assert deaths == [key for key in linked.deaths(-1) if key not in dead]
    statement = f"select src, dst from persists{asked} order by src, dst"
    assert database.ask(statement, min=least) == linked.persists(-1)


@pytest.mark.slow
@settings(on_random_graphs, max_examples=examples(10))
@given(graph=layered() | dense(), key=st.sampled_from(RESIDUAL), least=thresholds, data=st.data())
def test_by_another_measure_every_verb_answers_as_if_it_were_the_cosine(
    database: Database, graph: Layered, key: str, least: float | None, data: st.DataObject
) -> None:
    values = {(e.src, e.dst): data.draw(st.none() | COSINES) for e in graph.edges}
    known = [(e, values[e.src, e.dst]) for e in graph.edges]
    by = Layered(tuple(replace(e, cosine=v) for e, v in known if v is not None), graph.high)
    database.load(graph)
    database.connection.execute("truncate threshold")
    saes = [n for n, (_, site, _) in enumerate(SAES) if site == "res"]
    database.fill("threshold", sae=saes, measure=["twera"] * len(saes), high=list(graph.high))
    ends = {"src": [IDS[e.src] for e, _ in known], "dst": [IDS[e.dst] for e, _ in known]}
    database.ask(
        "update edge set twera = m.v from (select unnest($src) s, unnest($dst) d, unnest($v::float[]) v) m "
        "where src = m.s and dst = m.d",
        **ends,
        v=[value for _, value in known],
    )
    asked = "min := $min, by := 'twera'"
    for verb, forks in (("splits", by.splits(least)), ("merges", by.merges(least))):
        rows = database.ask(f"from {verb}({asked})", min=least)
        assert [(row[1], row[2], row[3]) for row in rows] == [(k, len(v), v) for k, v in forks.items()]
    births = [(row[1], row[3]) for row in database.ask(f"from births({asked})", min=least)]
    assert births == list(by.births(least).items())
    assert [row[1] for row in database.ask(f"from deaths({asked})", min=least)] == by.deaths(least)
    persisting = database.ask(f"select src, dst from persists({asked}) order by src, dst", min=least)
    assert persisting == by.persists(least)
    chains = database.ask(f"from chains({asked})", min=least)
    assert [row[4] for row in chains] == [list(chain.keys) for chain in by.chains(least)]
    for verb, up in (("ancestors", True), ("descendants", False)):
        rows = database.ask(f"from {verb}($f, {asked})", f=key, min=least)
        expected = by.reached(key, least, None, up)
        assert {row[1]: (row[5], row[6]) for row in rows} == {
            k: pytest.approx(v) for k, v in expected.items()
        }


@on_random_graphs
@given(graph=layered() | dense(), least=thresholds)
def test_persisting_edges_are_the_best_of_both_ends(
    database: Database, graph: Layered, least: float | None
) -> None:
    database.load(graph)
    statement = "select src, dst from persists(min := $min) order by src, dst"
    assert database.ask(statement, min=least) == graph.persists(least)


@on_random_graphs
@given(graph=layered())
def test_pairs_are_the_saes_that_edges_join(database: Database, graph: Layered) -> None:
    database.load(graph)
    saes = {f"{at}/{site}": sae for sae, (at, site, _) in enumerate(SAES)}
    joined = [(saes[e.src.rpartition("/")[0]], saes[e.dst.rpartition("/")[0]], e.kind) for e in graph.edges]
    expected = sorted((*pair, joined.count(pair)) for pair in set(joined))
    assert database.ask("select src_sae, dst_sae, kind, n_edges from pair") == expected


@pytest.mark.thorough
@settings(on_random_graphs, max_examples=examples(60))
@given(
    graph=dense(),
    ends=st.tuples(st.sampled_from(KEYS[:9]), st.sampled_from(RESIDUAL[-5:])),
    k=st.integers(1, 12),
    least=st.sampled_from([-1.0, 0.25, None]),
    by=st.sampled_from(["product", "sum", "min"]),
    writer=st.sampled_from([-1.0, 0.25, 0.5]),
)
def test_paths_are_the_best_of_all_there_are(
    database: Database,
    graph: Layered,
    ends: tuple[str, str],
    k: int,
    least: float | None,
    by: str,
    writer: float,
) -> None:
    database.load(graph)
    statement = "from paths($a, $b, k := $k, min := $min, score := $by, writer_min := $writer)"
    asked = {"a": ends[0], "b": ends[1], "k": k, "min": least, "by": by, "writer": writer}
    expected = graph.paths(*ends, k, least, by, writer)
    rows = database.ask(statement, **asked)
    assert [row[6] for row in rows] == [list(path.keys) for path in expected]
    assert [row[5] for row in rows] == [[IDS[key] for key in path.keys] for path in expected]
    assert [row[:3] for row in rows] == [
        (rank, len(path.cosines), path.score(by)) for rank, path in enumerate(expected, 1)
    ]
    assert [row[3:5] for row in rows] == [
        (path.score("product"), min(path.cosines, default=None)) for path in expected
    ]


def test_of_two_equal_paths_over_the_same_feature_the_one_that_was_better_there_is_ahead(
    database: Database,
) -> None:
    links = [
        ("0/res/0", "1/res/0", 0.5),
        ("0/res/0", "1/res/1", 0.75),
        ("1/res/0", "2/res/0", 0.5),
        ("1/res/1", "2/res/0", 0.75),
        ("2/res/0", "3/res/0", 0.25),
    ]
    edges = tuple(Edge(src, dst, "res_res", cosine) for src, dst, cosine in links)
    database.load(Layered(edges, (0.125,) * LAYERS))
    rows = database.ask("from paths('0/res/0', '3/res/0', k := 2, score := 'min')")
    assert [(row[2], row[6][1]) for row in rows] == [(0.25, "1/res/1"), (0.25, "1/res/0")]  # type: ignore[index]


@on_random_graphs
@given(graph=layered() | dense(), key=st.sampled_from(KEYS), least=thresholds, writer=SIGNED)
def test_neighbors_are_all_edges_that_pass(
    database: Database, graph: Layered, key: str, least: float | None, writer: float
) -> None:
    database.load(graph)
    statement = "from neighbors($f, min := $min, writer_min := $writer)"
    rows = database.ask(statement, f=key, min=least, writer=writer)
    found = [(row[1], row[5], row[6], row[7]) for row in rows]
    assert found == graph.neighbors(key, least, writer)
    assert [row[0] for row in rows] == [IDS[str(row[1])] for row in rows]
    assert [f"{row[2]}/{row[3]}/{row[4]}" for row in rows] == [row[1] for row in rows]


@on_random_graphs
@given(graph=layered() | dense(), least=thresholds)
def test_chains_cannot_be_made_longer(database: Database, graph: Layered, least: float | None) -> None:
    database.load(graph)
    rows = database.ask("from chains(min := $min)", min=least)
    assert [row[4] for row in rows] == [list(chain.keys) for chain in graph.chains(least)]
    assert [row[1:4] for row in rows] == [
        (chain.keys[0], chain.keys[-1], len(chain.keys)) for chain in graph.chains(least)
    ]
    assert [row[5:] for row in rows] == [
        (min(chain.cosines), chain.score("product")) for chain in graph.chains(least)
    ]
    assert [row[0] for row in rows] == [IDS[chain.keys[0]] for chain in graph.chains(least)]


layers = st.none() | st.integers(0, LAYERS)


@pytest.mark.thorough
@on_random_graphs
@given(graph=layered() | dense(), least=thresholds | st.just(-1.0), first=layers, last=layers)
def test_flow_counts_the_events_of_both_layers(
    database: Database, graph: Layered, least: float | None, first: int | None, last: int | None
) -> None:
    database.load(graph)
    rows = database.ask("from flow($first, $last, min := $min)", first=first, last=last, min=least)
    expected = [
        row
        for row in graph.flow(least)
        if int(str(row[0])) >= (first or 0) and int(str(row[1])) <= (LAYERS if last is None else last)
    ]
    assert [(*row[:2], *row[4:10]) for row in rows] == [row[:8] for row in expected]
    assert [row[10] for row in rows] == [pytest.approx(row[8]) for row in expected]
    assert all(row[2:4] == (3, 3) for row in rows)

"""Ablation of a graph's edges: which, on which tokens, what is written, and what is left as it was."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

import featgraph
from featgraph import SourceError, StoreError, UsageError
from featgraph.ablation import ablate
from featgraph.ablation.choosing import choose_edges
from featgraph.ablation.firing import Text, firing
from featgraph.ablation.measuring import measure
from featgraph.ablation.removing import Removals
from featgraph.ablation.sessions import Session
from featgraph.activations import Batch, Tokens
from featgraph.core.progress import Advance, Silent
from featgraph.ingestion import ingest
from featgraph.recipe import read_recipe
from featgraph.store import open_store
from helpers.one_removal import one_by_one

EVERY = "SELECT src, dst FROM edge"
TOUCHED = "select src, dst, ablation_change, ablation_n from edge where ablation_n is not null order by all"


def rows(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with featgraph.open(path) as opened:
        return opened.sql(statement).rows


# ---- what is measured


@pytest.mark.thorough
def test_counts_on_the_recipes_text_are_those_of_the_ingest(graph: Path) -> None:
    found = ablate(graph, EVERY, sample=None, tokens=1).dicts()
    known = rows(
        graph,
        "select s.key, d.key, n_both from edge e join feature s on s.id = src join feature d on d.id = dst",
    )
    counted = {(row["src"], row["dst"]): row["n_both"] for row in found}
    assert counted == {(src, dst): n for src, dst, n in known}
    assert len(found) == len(known) > 300
    densities = dict(rows(graph, "select key, density * 250 from feature"))
    assert all(row["n_dst"] == round(float(str(densities[row["dst"]]))) for row in found)


def test_the_change_is_the_mean_over_single_full_runs(graph: Path) -> None:
    """Every token on which both fire, for a few edges of each kind, one run of the model each."""
    statement = """
        select src, dst from edge where n_both between 3 and 40
        qualify row_number() over (partition by kind order by hash(src, dst)) <= 3
    """
    found = ablate(graph, statement, tokens=100).dicts()
    assert {row["kind"] for row in found} == {"res_res", "mlp_res", "att_res"}
    expected = naive(graph, statement)
    for row in found:
        change, silenced, n = expected[row["src"], row["dst"]]
        assert row["ablation_n"] == n == row["n_both"]
        assert row["ablation_change"] == pytest.approx(change, abs=1e-3)
        assert row["success"] == pytest.approx(silenced)


def naive(graph: Path, statement: str) -> dict[tuple[Any, Any], tuple[float, float, int]]:
    with open_store(graph) as store:
        session = Session(store, None, None)
        edges = choose_edges(store, statement, None, 0)
        found = {}
        for place in range(len(edges)):
            one = edges.take(np.array([place]))
            up, down = int(one.upstream[0]), int(one.downstream[0])
            saes = session.saes([up, down])
            drawn = firing(session.model, saes, session.text, one, 10**6, 0, lambda _: None).drawn
            n = len(drawn.edge)
            ends = [
                one.index(ids, sae_ranges)
                for ids, sae_ranges in ((one.src, one.upstream), (one.dst, one.downstream))
            ]
            removals = Removals(
                drawn.row, drawn.position, np.full(n, up), np.repeat(ends[0], n), np.repeat(ends[1], n)
            )
            effects = one_by_one(session.model.model, saes, saes[down], session.text.rows, removals)
            keys = (str(store.saes[up].key(int(ends[0][0]))), str(store.saes[down].key(int(ends[1][0]))))
            assert (effects.removed != 0).all()
            found[keys] = (float(effects.change.mean()), float(effects.silenced.mean()), n)
        return found


@pytest.mark.thorough
def test_at_most_so_many_tokens_are_drawn_and_each_is_as_likely(graph: Path) -> None:
    with open_store(graph) as store:
        session = Session(store, None, None)
        edges = choose_edges(store, "select src, dst from edge where n_both = 9 limit 11", None, 0)
        saes = session.saes({*edges.upstream.tolist(), *edges.downstream.tolist()})
        drawn = [
            firing(session.model, saes, session.text, edges, 3, seed, lambda _: None).drawn
            for seed in range(45)
        ]
    assert all(np.bincount(one.edge).tolist() == [3] * len(edges) for one in drawn)
    places = [(e, p, q) for one in drawn for e, p, q in zip(one.edge, one.row, one.position, strict=True)]
    counts = np.array([places.count(place) for place in set(places)])
    assert len(counts) == 9 * len(edges)
    assert counts.mean() == 15
    # A token is drawn in a third of 45 runs: a variance of 10.
    assert counts.var() == pytest.approx(10, rel=0.4)


def test_drawing_shard_by_shard_keeps_as_many_tokens(graph: Path) -> None:
    with open_store(graph) as store:
        session = Session(store, None, None)
        edges = choose_edges(store, "select src, dst from edge where n_both > 8 limit 10", None, 0)
        saes = session.saes({*edges.upstream.tolist(), *edges.downstream.tolist()})
        [shard] = session.text.shards
        halves = Text(
            [
                type(shard)(shard.rows[:9], shard.special, 0),
                type(shard)(shard.rows[9:], shard.special, 9),
            ]
        )
        whole = firing(session.model, saes, session.text, edges, 4, 0, lambda _: None)
        parts = firing(session.model, saes, halves, edges, 4, 0, lambda _: None)
    assert parts.n_both.tolist() == whole.n_both.tolist()
    assert np.bincount(parts.drawn.edge).tolist() == [4] * 10
    tokens = Tokens.joined(list[Batch](shard.batches()))
    known = set(zip(tokens.row.tolist(), tokens.position.tolist(), strict=True))
    assert set(zip(parts.drawn.row.tolist(), parts.drawn.position.tolist(), strict=True)) <= known
    assert {row < 9 for row in parts.drawn.row.tolist()} == {True, False}


@pytest.mark.thorough
def test_saes_that_do_not_fit_together_give_the_same(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def changes() -> list[list[float]]:
        with open_store(graph) as store:
            session = Session(store, None, None)
            found = measure(session, choose_edges(store, EVERY, 60, 0), 3, 0, Silent())
        return [found.change.tolist(), found.n.tolist(), found.n_dst.tolist()]

    together = changes()
    monkeypatch.setattr("featgraph.ablation.sessions.memory", lambda: 0)
    np.testing.assert_allclose(changes(), together, atol=1e-4)


@pytest.mark.thorough
def test_another_text_and_fewer_tokens_can_be_read(graph: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("the sad cat sat on the red ball and the dog")
    found = ablate(graph, EVERY, sample=20, text=str(tmp_path / "other.txt")).dicts()
    assert max(int(str(row["n_dst"])) for row in found) <= 20
    ablate(graph, EVERY, sample=20, read=50)
    with featgraph.open(graph) as opened:
        other, short = opened.manifest["ablations"]
    assert other["text"]["path"].endswith("other.txt")
    assert short["text"]["path"] == "small/text.txt.gz"
    assert short["text"]["n_tokens"] == 50


# ---- which edges


@pytest.mark.thorough
def test_left_to_itself_it_ablates_what_the_verbs_go_along(graph: Path) -> None:
    wanted = rows(
        graph,
        "select s.key, d.key from edge e join feature s on s.id = src join feature d on d.id = dst"
        " join sae on sae.layer = d.layer and sae.site = d.site"
        " where cosine >= if(kind = 'res_res', threshold_high, 0.25) and n_both > 0",
    )
    found = ablate(graph, sample=None, tokens=1).dicts()
    assert sorted((row["src"], row["dst"]) for row in found) == sorted(wanted)
    assert {row["kind"] for row in found} == {"mlp_res", "att_res"}  # random directions: no 0.5 between them


def test_edges_can_be_named_by_keys_or_by_ids(graph: Path) -> None:
    by_key = "MATCH (a)-[e:res_res WHERE e.rank_in = 1]->(b) RETURN a.key AS src, b.key AS dst"
    by_id = "select dst, cosine, src from edge where kind = 'res_res' and rank_in = 1"
    with open_store(graph) as store:
        one, other = (choose_edges(store, statement, None, 0) for statement in (by_key, by_id))
    assert one.src.tolist() == other.src.tolist()
    assert one.dst.tolist() == other.dst.tolist()
    assert len(one) == one.among > 50


def test_a_sample_is_random_and_the_same_every_time(graph: Path) -> None:
    with open_store(graph) as store:
        one, same, other = (choose_edges(store, EVERY, 40, seed) for seed in (0, 0, 1))
        small, whole = choose_edges(store, EVERY, 10, 0), choose_edges(store, EVERY, None, 0)
    pairs = [set(zip(some.src, some.dst, strict=True)) for some in (one, same, other, small)]
    assert pairs[0] == pairs[1] != pairs[2]
    assert [len(some) for some in pairs] == [40, 40, 40, 10]
    assert pairs[3] < pairs[0]
    assert one.among == len(whole)
    assert len(np.unique(one.downstream)) == 3


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("select 0 as src, 1 as dst", "'0/att/0' -> '0/att/1' is no edge of this graph; --edges takes pairs"),
        ("select 0 as src, 1000000 as dst", "'0/att/0' -> id 1000000 is no edge"),
        ("select src from edge", "returns no column 'dst', only src; name both ends, as in SELECT src, dst"),
        ("select 1.5 as src, dst from edge", r"src is '1.5' in a row that .* return ids or keys"),
        ("select '0/res/9999' as src, dst from edge", "no feature '0/res/9999': 0/res has 40 features"),
        ("select src, dst from edge where false", "no edges to ablate; name others with --edges"),
    ],
)
def test_a_statement_that_names_no_edges_is_refused(graph: Path, statement: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ablate(graph, statement)


# ---- what is written


@pytest.mark.thorough
def test_only_the_edges_asked_for_get_numbers(graph: Path, tmp_path: Path) -> None:
    shutil.copytree(graph, tmp_path / "before")
    found = ablate(graph, EVERY, sample=30, tokens=2).dicts()
    touched = rows(graph, TOUCHED)
    assert len(touched) == 30
    assert sorted(row[3] for row in touched) == sorted(int(str(row["ablation_n"])) for row in found)
    with duckdb.connect() as client:
        for name, path in {"old": tmp_path / "before", "new": graph}.items():
            client.execute(f"attach '{path / 'graph.duckdb'}' as {name} (read_only)")
        whole = "from {}.{}"
        for table in ("sae", "feature", "pair", "example", "label", "meta"):
            old, new = (client.execute(whole.format(name, table)).fetchall() for name in ("old", "new"))
            assert old == new
        columns = "select * exclude (ablation_change, ablation_n) from {}.edge"
        old, new = (client.execute(columns.format(name)).fetchall() for name in ("old", "new"))
        assert old == new  # in the same order
        types = [client.execute(f"describe {name}.edge").fetchall() for name in ("old", "new")]
        assert types[0] == types[1]
    assert {path.name for path in graph.iterdir()} == {"graph.duckdb", "manifest.json", "vectors"}


@pytest.mark.thorough
def test_the_verbs_still_answer_in_the_same_way(graph: Path) -> None:
    [(key,)] = rows(graph, "select key from lineage('1/res/0') limit 1")
    before = rows(graph, f"from lineage('{key}', min => 0.2)"), rows(graph, "from splits(min => 0.2)")
    ablate(graph, EVERY, sample=50, tokens=2)
    assert (
        rows(graph, f"from lineage('{key}', min => 0.2)"),
        rows(graph, "from splits(min => 0.2)"),
    ) == before
    with featgraph.open(graph) as opened:
        assert opened.adjacency
        assert opened.similar(key).rows


@pytest.mark.thorough
def test_a_second_ablation_replaces_the_numbers_of_its_edges_alone(graph: Path) -> None:
    ablate(graph, EVERY, sample=40, tokens=1)
    before = {row[:2]: row[2:] for row in rows(graph, TOUCHED)}
    ablate(graph, EVERY, sample=10, tokens=50)
    after = {row[:2]: row[2:] for row in rows(graph, TOUCHED)}
    assert after.keys() == before.keys()
    changed = [edge for edge in after if after[edge] != before[edge]]
    assert 0 < len(changed) <= 10
    assert max(after[edge][1] for edge in changed) > 1


@pytest.mark.thorough
def test_an_edge_that_never_fires_has_a_count_of_zero_and_no_change(graph: Path) -> None:
    [(src, dst)] = rows(graph, "select src, dst from edge where n_both = 0 limit 1")
    [row] = ablate(graph, f"select {src} as src, {dst} as dst").dicts()
    assert (row["ablation_n"], row["ablation_change"], row["success"]) == (0, None, None)
    assert rows(graph, TOUCHED) == [(src, dst, None, 0)]


@pytest.mark.thorough
def test_the_manifest_tells_how_it_was_done(graph: Path) -> None:
    ablate(graph, EVERY, sample=5, tokens=3, seed=7)
    ablate(graph, EVERY, sample=6)
    with featgraph.open(graph) as opened:
        first, second = opened.manifest["ablations"]
        text = opened.manifest["text"]
    assert (first["edges"], first["n"], first["tokens"], first["seed"]) == (EVERY, 5, 3, 7)
    assert second["n"] == 6
    assert first["among"] > 300
    assert first["text"]["sha256"] == text["sha256"]
    assert first["text"]["n_tokens"] == text["n_tokens"]


class Interrupting:
    """Progress that stops the job, as Ctrl-C does, once a step has got so far."""

    def __init__(self, step: str) -> None:
        self.name = step

    @contextmanager
    def step(self, name: str, total: int, unit: str) -> Iterator[Advance]:
        def advance(count: int) -> None:
            if name == self.name:
                raise KeyboardInterrupt

        yield advance


@pytest.mark.thorough
@pytest.mark.parametrize("step", ["read text", "remove features"])
def test_an_interrupt_leaves_the_graph_as_it_was(graph: Path, step: str) -> None:
    before = (graph / "graph.duckdb").read_bytes(), (graph / "manifest.json").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        ablate(graph, EVERY, sample=20, progress=Interrupting(step))
    assert ((graph / "graph.duckdb").read_bytes(), (graph / "manifest.json").read_bytes()) == before
    assert {path.name for path in graph.iterdir()} == {"graph.duckdb", "manifest.json", "vectors"}
    assert not list(graph.parent.glob(".*"))
    assert len(ablate(graph, EVERY, sample=2)) == 2


def test_a_second_writer_is_refused(graph: Path) -> None:
    from featgraph.labels.writing import labelling

    with labelling(graph), pytest.raises(StoreError, match="is being written by another process"):
        ablate(graph, EVERY, sample=2)


# ---- what it cannot be done with


@pytest.mark.thorough
def test_a_graph_without_a_text_is_refused(small_recipe: Path, tmp_path: Path) -> None:
    shutil.copytree(small_recipe.parent, tmp_path / "suite")
    recipe = read_recipe(tmp_path / "suite" / small_recipe.name).data_free()
    ingest(recipe, tmp_path / "suite" / "small.featgraph")
    with pytest.raises(
        SourceError, match=r"was made without a text, .* build it from a recipe with a \[text\]"
    ):
        ablate(tmp_path / "suite" / "small.featgraph")


def test_a_graph_whose_model_is_gone_is_refused(graph: Path, toy: Path) -> None:
    shutil.rmtree(graph.parent / "small" / "model")
    with pytest.raises(SourceError, match="no model at"):
        ablate(graph, EVERY, sample=2)
    with pytest.raises(SourceError, match=r"cannot find the language model of .* again"):
        ablate(toy, EVERY)
    with featgraph.open(graph) as opened:
        assert "ablations" not in opened.manifest


@pytest.mark.parametrize("settings", [{"tokens": 0}, {"sample": 0}, {"seed": -1}])
def test_numbers_out_of_range_are_refused(graph: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="is too small; give a whole number from"):
        ablate(graph, EVERY, **settings)

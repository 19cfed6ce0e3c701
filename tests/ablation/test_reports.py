"""What ablations say in sum: rules for choosing an upstream feature, measures that predict; the command."""

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr
from typer.testing import CliRunner, Result

import featgraph
from featgraph import SourceError, UsageError
from featgraph.ablation import ablate, baselines, predictions
from featgraph.ablation.baselines import Tried, _compared, _pooled
from featgraph.ablation.firing import codes_of
from featgraph.ablation.measuring import removed
from featgraph.ablation.predicting import MEASURES, auroc, spearman
from featgraph.ablation.sessions import Session
from featgraph.ablation.targets import Targets, draw_targets
from featgraph.cli import app
from featgraph.core.bootstrap import cluster_interval
from featgraph.core.keys import EDGE_KINDS
from featgraph.core.measures import FINDERS
from featgraph.core.progress import Silent
from featgraph.store import open_store

EVERY = "SELECT src, dst FROM edge"
METHODS = ["random", "top-1 cosine", "top-1 pearson", "best"]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


# ---- ranks and intervals

SCORES = st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 5)), min_size=1, max_size=30)


@given(SCORES)
def test_auroc_is_the_share_of_pairs_in_order(drawn: list[tuple[int, bool, int]]) -> None:
    scores, positive = np.array([float(one[0]) for one in drawn]), np.array([one[1] for one in drawn])
    pairs = [(float(a > b) + 0.5 * float(a == b)) for a in scores[positive] for b in scores[~positive]]
    found = auroc(rankdata(scores), positive)
    assert found == pytest.approx(np.mean(pairs)) if pairs else np.isnan(found)


@given(SCORES)
def test_spearman_is_that_of_scipy(drawn: list[tuple[int, bool, int]]) -> None:
    one, other = (np.array([float(row[place]) for row in drawn]) for place in (0, 2))
    found = spearman(rankdata(one), rankdata(other))
    if len(set(one)) > 1 and len(set(other)) > 1:
        assert found == pytest.approx(spearmanr(one, other).statistic)
    else:
        assert np.isnan(found)


def mean_interval(values: NDArray[Any], clusters: NDArray[np.int64]) -> tuple[Any, Any]:
    return cluster_interval(lambda places: values[places].mean(keepdims=True), clusters, 0)


@pytest.mark.thorough
def test_an_interval_covers_the_mean_as_often_as_it_says() -> None:
    """Clusters of four equal values: taken as independent, the interval would be half as wide."""
    rng = np.random.default_rng(0)
    covered, width = 0, []
    for _ in range(60):
        values = np.repeat(rng.normal(size=40), 4)
        low, high = mean_interval(values, np.repeat(np.arange(40), 4))
        covered += int(low[0] < 0 < high[0])
        width.append(high[0] - low[0])
    assert covered >= 52
    assert np.mean(width) == pytest.approx(2 * 1.96 / np.sqrt(40), rel=0.1)


def test_one_cluster_has_no_interval() -> None:
    low, high = mean_interval(np.arange(5.0), np.zeros(5, dtype=np.int64))
    assert np.isnan([*low, *high]).all()


# ---- which measures predict an effect


N = len(MEASURES)
"""Rows per group of edges."""


@pytest.mark.thorough
def test_a_measure_that_is_the_effect_predicts_it_and_its_negative_does_not(graph: Path) -> None:
    database = duckdb.connect(str(graph / "graph.duckdb"))
    database.execute(
        "update edge set ablation_change = cosine, ablation_n = 5, jaccard = -cosine,"
        " pearson = if(src % 2 = 0, null, cosine * cosine * cosine)"
    )
    database.execute("update edge set ablation_n = 4 where kind = 'res_res'")
    database.close()
    with featgraph.open(graph) as opened:
        found = predictions(opened.store).dicts()
        [(n, strong)] = opened.sql(
            "select count(*), count(*) filter (cosine >= 0.5) from edge where kind <> 'res_res'"
        ).rows
        proposed = [
            opened.sql(
                "select count(*) from edge where kind <> 'res_res' "
                f"and list_contains(string_split(found_by, ','), '{name}')"
            ).rows[0][0]
            for name in FINDERS[:-1]
        ]
    assert [(row["kind"], row["found_by"]) for row in found[::N]] == [
        ("mlp_res", "any"),
        ("att_res", "any"),
        ("all", "any"),
        ("all", "cosine"),
        ("all", "twera"),
    ]
    by_name = {row["measure"]: row for row in found if (row["kind"], row["found_by"]) == ("all", "any")}
    assert [row["n"] for row in found[3 * N :: N]] == proposed
    assert (by_name["cosine"]["n"], by_name["cosine"]["n_strong"]) == (n, strong)
    assert (
        by_name["cosine"]["auroc"] == by_name["cosine"]["auroc_low"] == by_name["cosine"]["auroc_high"] == 1
    )
    assert by_name["jaccard"]["auroc"] == by_name["jaccard"]["auroc_high"] == 0
    assert by_name["jaccard"]["spearman"] == pytest.approx(-1)
    assert by_name["pearson"]["spearman"] == pytest.approx(1)
    assert int(str(by_name["pearson"]["n"])) < int(str(n))
    low, middle, high = (float(str(by_name["necessity"][f"auroc{end}"])) for end in ("_low", "", "_high"))
    assert low < middle < high


def test_a_graph_in_which_nothing_was_ablated_says_what_to_run(toy: Path) -> None:
    with (
        featgraph.open(toy) as opened,
        pytest.raises(UsageError, match="has been ablated on 5 tokens or more; run"),
    ):
        predictions(opened.store)


# ---- rules for choosing one candidate


def tried() -> Tried:
    """Three targets. Target 0: two res candidates, one mlp; 1: the nearest res is silent; 2: none fires."""
    columns = [
        # target, kind, cosine, pearson, fires, change, silenced, order
        (0, 0, 0.9, 0.1, True, 0.6, False, 0.5),
        (0, 0, 0.5, 0.8, True, 1.0, True, 0.9),
        (0, 1, 0.3, 0.2, False, 0.0, False, 0.99),
        (1, 0, 0.8, 0.9, False, 0.0, False, 0.2),
        (1, 0, 0.2, 0.1, True, 0.3, False, 0.1),
        (1, 1, 0.4, 0.3, True, -0.5, False, 0.7),
        (2, 2, 0.7, 0.7, False, 0.0, False, 0.4),
    ]
    target, kind, cosine, pearson, fires, change, silenced, order = zip(*columns, strict=True)
    return Tried(
        np.array(target),
        np.array(kind, dtype=np.int8),
        np.array(cosine, dtype=np.float32),
        np.array(pearson, dtype=np.float32),
        np.array(fires),
        np.array(change, dtype=np.float32),
        np.array(silenced),
        np.array(order),
    )


def compared(pool: Any) -> dict[str, tuple[object, ...]]:
    found = _compared(_pooled(tried(), pool), np.array([0, 1, 2]), 0)
    return {str(row[0]): row[1:] for row in found}


def test_the_rules_are_compared_on_targets_where_all_choices_fire() -> None:
    found = compared("res_res")
    # n_targets, fires, n, change ..., success ...: only target 0 has both of its nearest firing.
    assert found["random"][:4] == (2, 1.0, 1, 1.0)
    assert found["top-1 cosine"][:4] == (2, 0.5, 1, pytest.approx(0.6))
    assert found["top-1 pearson"][:4] == (2, 0.5, 1, 1.0)
    assert found["best"][:4] == (2, 1.0, 1, 1.0)
    assert (found["top-1 cosine"][6], found["best"][6]) == (0, 1)


def test_a_target_counts_as_single_if_one_kinds_nearest_match_fires() -> None:
    """Target 0 by res; target 1 by mlp, since its nearest res candidate is silent."""
    found = compared("single")
    assert found["random"][:3] == (2, 1.0, 2)
    assert found["top-1 cosine"][3] == pytest.approx((0.6 - 0.5) / 2)
    assert found["best"][3] == pytest.approx((1.0 - 0.5) / 2)


def test_a_pool_without_candidates_that_fire_has_no_means() -> None:
    assert compared("att_res")["best"] == (0, None, 0, *[None] * 6)


def test_all_kinds_together_have_one_choice() -> None:
    found = compared("all")
    assert found["best"][:3] == (2, 1.0, 1)
    assert found["random"][3] == 1.0


# ---- on a real model


def test_targets_are_activations_of_the_text_and_as_many_of_each_sae(graph: Path) -> None:
    with open_store(graph) as store:
        session = Session(store, None, None)
        targets = draw_targets(session, 30, 0, Silent())
        again = draw_targets(session, 30, 0, Silent())
        assert targets.idx.tolist() == again.idx.tolist()
        assert np.bincount(targets.sae).tolist() == [0, 0, 10, 0, 0, 10, 0, 0, 10]
        [shard] = session.text.shards
        for sae in np.unique(targets.sae).tolist():
            tokens, [codes] = codes_of(session.model, [session.saes([sae])[sae]], shard)
            for place in np.flatnonzero(targets.sae == sae):
                [row] = np.flatnonzero(
                    (tokens.row == targets.row[place]) & (tokens.position == targets.position[place])
                )
                assert codes[row, targets.idx[place]] != 0


@pytest.mark.thorough
def test_the_report_is_what_removing_every_candidate_says(graph: Path) -> None:
    """Recounted from the removals with plain loops."""
    found = {(row["candidates"], row["method"]): row for row in baselines(graph, sample=24).dicts()}
    assert list(found) == [(pool, rule) for pool in (*EDGE_KINDS, "all", "single") for rule in METHODS]
    with open_store(graph) as store:
        session = Session(store, None, None)
        targets = draw_targets(session, 24, 0, Silent())
        for kind in EDGE_KINDS:
            expected = recounted(store, session, targets, kind)
            row = found[kind, "best"]
            assert row["n_targets"] == len(expected)
            shared = [one for one in expected if one["cosine"] is not None and one["pearson"] is not None]
            for rule, name in (("top-1 cosine", "cosine"), ("top-1 pearson", "pearson"), ("best", "best")):
                row = found[kind, rule]
                assert row["n"] == len(shared)
                assert row["fires"] == pytest.approx(np.mean([one[name] is not None for one in expected]))
                assert row["change"] == pytest.approx(np.mean([one[name] for one in shared]), abs=1e-4)
                low, mean, high = (float(str(row[f"change{end}"])) for end in ("_low", "", "_high"))
                assert low <= mean <= high


def recounted(store: Any, session: Session, targets: Targets, kind: str) -> list[dict[str, float | None]]:
    """The change by the choice of each rule, None where it does not fire; targets with a firing candidate."""
    found = []
    for place, target in enumerate(targets.ids(session.sae_ranges).tolist()):
        sae = int(targets.sae[place])
        candidates = store.rows(
            "select src, cosine, pearson from edge where dst = $dst and kind = $kind",
            {"dst": target, "kind": kind},
        )
        change: dict[int, float] = {}
        for src, _, _ in candidates:
            removals = targets.removals(session.sae_ranges, np.array([place]), np.array([src]))
            saes = session.saes([int(removals.sae[0]), sae])
            effects = removed(session, saes, sae, removals, lambda _: None)
            if len(effects.valid):
                change[src] = float(effects.change[0])
        if change:
            by_cosine = max(candidates, key=lambda row: row[1])[0]
            by_pearson = max(candidates, key=lambda row: -2 if row[2] is None else row[2])[0]
            best = max(change.values())
            found.append({"cosine": change.get(by_cosine), "pearson": change.get(by_pearson), "best": best})
    return found


@pytest.mark.thorough
def test_a_report_of_rules_writes_nothing(graph: Path) -> None:
    before = (graph / "graph.duckdb").read_bytes(), (graph / "manifest.json").read_bytes()
    baselines(graph, sample=6)
    assert ((graph / "graph.duckdb").read_bytes(), (graph / "manifest.json").read_bytes()) == before


def test_targets_without_a_model_are_refused(toy: Path) -> None:
    with pytest.raises(SourceError, match="cannot find the language model"):
        baselines(toy)


# ---- the command


@pytest.mark.thorough
def test_the_command_prints_rows_and_says_what_it_wrote(graph: Path) -> None:
    done = call("ablate", graph, "--edges", EVERY, "--sample", 8, "--tokens", 4, "-q", "--format", "json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == 8
    assert list(found[0])[:6] == ["src", "dst", "kind", "cosine", "ablation_change", "success"]
    assert "wrote ablation_change and ablation_n of 8 edges to" in done.stderr
    whole = call("ablate", graph, "--sample", 0, "--tokens", 1, "-q", "--format", "json")
    assert len(json.loads(whole.stdout)) > 8


@pytest.mark.thorough
def test_the_command_prints_both_reports(graph: Path) -> None:
    ablate(graph, EVERY, sample=60)
    methods = call("ablate", graph, "--report", "methods", "--sample", 9, "-q", "--format", "json")
    assert [row["method"] for row in json.loads(methods.stdout)] == METHODS * 5
    measures = call("ablate", graph, "--report", "measures", "--format", "json")
    assert {row["measure"] for row in json.loads(measures.stdout)} >= {"cosine", "pearson", "virtual_weight"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--report", "measures", "--read", 5], "--report measures takes no --read"),
        (["--report", "methods", "--edges", EVERY], "--report methods takes no --edges"),
        (["--report", "methods", "--sample", 0], "--sample must be 1 or more"),
    ],
)
def test_what_a_report_does_not_take_is_refused(graph: Path, arguments: list[object], message: str) -> None:
    done = call("ablate", graph, *arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_a_graph_without_its_model_exits_4_and_no_graph_exits_3(toy: Path, tmp_path: Path) -> None:
    assert call("ablate", toy, "-q").exit_code == 4
    assert call("ablate", tmp_path / "none.featgraph").exit_code == 3

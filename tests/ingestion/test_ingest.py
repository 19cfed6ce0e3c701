"""A real ingest of a small random suite, checked number by number against dense numpy over the whole text."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

import featgraph
from featgraph import suite
from featgraph.activations import TokenRows, read_shards
from featgraph.core.arrays import Matrix
from featgraph.core.keys import SaeRange, edge_plan
from featgraph.core.measures import FINDERS
from featgraph.errors import SourceError
from featgraph.graph import Graph
from featgraph.ingestion import ingest
from featgraph.recipe import Recipe, read_recipe
from featgraph.store import open_store
from featgraph.suite import LanguageModel, LoadedSae
from helpers.same_tables import differences


@dataclass
class Dense:
    """The suite's codes as one dense matrix per SAE, and where each row is in the text."""

    recipe: Recipe
    model: LanguageModel
    saes: list[LoadedSae]
    sae_ranges: list[SaeRange]
    token_rows: TokenRows
    codes: list[Matrix]
    residuals: list[Matrix]
    token: list[int]
    row: list[int]


@pytest.fixture(scope="module")
def dense(small_recipe: Path, small: Path) -> Dense:
    """Each token row through the model on its own, unpadded, so that batching is put to the test."""
    recipe = read_recipe(small_recipe)
    assert recipe.text is not None
    model = suite.load_model(recipe)
    with open_store(small) as opened:
        sae_ranges = opened.saes
    loaded = [suite.load_sae(recipe, source, layer, model) for layer, source in recipe.places]
    saes = [next(one for one in loaded if one.name == sae_range.name) for sae_range in sae_ranges]
    shards = list(read_shards(recipe.text, model.tokenizer))
    token_rows = TokenRows([row for shard in shards for row in shard.rows], shards[0].special)
    modules = [one.reading.module for one in saes if one.reading is not None]
    kept: dict[str, torch.Tensor] = {}
    for module in modules:

        def hook(_module: object, _inputs: object, output: object, name: str = module) -> None:
            kept[name] = output[0] if isinstance(output, tuple) else output  # type: ignore[assignment]

        model.model.get_submodule(module).register_forward_hook(hook)
    codes: list[list[Matrix]] = [[] for _ in saes]
    residuals: list[list[Matrix]] = [[] for _ in saes]
    token, row_of_token = [], []
    with torch.inference_mode():
        for number, row in enumerate(token_rows.rows):
            model.model(torch.from_numpy(row.astype(np.int64))[None])
            for place, module in enumerate(modules):
                activations, sae = kept[module][0, 1:], saes[place].sae
                assert sae is not None
                residuals[place].append(activations.numpy())
                codes[place].append(sae.encode(activations).numpy())
            token += row[1:].tolist()
            row_of_token += [number] * (len(row) - 1)
    stacked = [np.concatenate(parts) for parts in codes]
    read = [np.concatenate(parts) for parts in residuals]
    return Dense(recipe, model, saes, sae_ranges, token_rows, stacked, read, token, row_of_token)


@pytest.fixture(scope="module")
def graph(small: Path) -> Iterator[Graph]:
    with featgraph.open(small) as opened:
        yield opened


def column(graph: Graph, statement: str) -> list[object]:
    return [row[0] for row in graph.store.connection.execute(statement).fetchall()]


def test_the_text_is_read_up_to_the_token_limit_without_bos(dense: Dense, graph: Graph) -> None:
    assert dense.recipe.text is not None
    assert dense.token_rows.n_tokens == dense.recipe.text.tokens == len(dense.token)
    assert graph.manifest["text"]["n_tokens"] == dense.recipe.text.tokens


def test_feature_statistics_equal_a_dense_count(dense: Dense, graph: Graph) -> None:
    codes = np.concatenate(dense.codes, axis=1)
    density = np.array(column(graph, "select density from feature order by id"))
    np.testing.assert_allclose(density, (codes != 0).mean(axis=0), atol=1e-6)
    strongest = column(graph, "select max_activation from feature order by id")
    means = column(graph, "select mean_activation from feature order by id")
    for feature, (largest, mean) in enumerate(zip(strongest, means, strict=True)):
        active = codes[:, feature][codes[:, feature] != 0]
        if not len(active):
            assert largest is None
            assert mean is None
            continue
        assert largest == pytest.approx(active.max(), rel=1e-4)
        assert mean == pytest.approx(active.mean(), rel=1e-4)


def test_dead_features_are_marked_and_counted(graph: Graph) -> None:
    dead = column(graph, "select idx from feature where density = 0 order by id")
    assert dead.count(7) == 9
    counted = column(graph, "select sum(n_dead) from sae")
    assert counted == [len(dead)]


def test_sae_health_equals_a_dense_computation(dense: Dense, graph: Graph) -> None:
    rows = graph.store.connection.execute("select l0, explained_variance from sae order by number").fetchall()
    for loaded, codes, x, (l0, explained) in zip(dense.saes, dense.codes, dense.residuals, rows, strict=True):
        assert l0 == pytest.approx((codes != 0).sum(axis=1).mean(), rel=1e-5)
        with torch.inference_mode():
            rebuilt = loaded.decode(torch.from_numpy(codes), torch.from_numpy(x)).numpy()
        expected = 1 - ((x - rebuilt) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum()
        assert explained == pytest.approx(expected, rel=1e-3)


def test_top_tokens_are_those_with_the_largest_mean_activation(dense: Dense, graph: Graph) -> None:
    token = np.array(dense.token)
    often = [value for value in np.unique(token) if (token == value).sum() >= 3]
    listed = column(graph, "select top_tokens from feature order by id")
    codes = np.concatenate(dense.codes, axis=1)
    for feature in range(0, codes.shape[1], 11):
        mean = {int(value): codes[token == value, feature].mean() for value in often}
        best = sorted((value for value in mean if mean[value] != 0), key=lambda value: (-mean[value], value))[
            :10
        ]
        assert listed[feature] == [dense.model.tokenizer.decode([value]) for value in best]


def test_edges_equal_brute_force_on_cosine_counts_and_weights(dense: Dense, graph: Graph) -> None:
    plan = edge_plan(dense.sae_ranges, dense.recipe.edges.kinds)
    assert [kind for _, _, kind in plan].count("res_res") == 2
    seen = 0
    for up, down, kind in plan:
        u, d = dense.saes[up.number].sae, dense.saes[down.number].sae
        assert u is not None
        assert d is not None
        rows = graph.store.connection.execute(
            "select src - $up, dst - $down, cosine, n_both, pearson, virtual_weight, attribution, twera, "
            "found_by from edge "
            "where kind = $kind and src between $up and $last order by src, dst",
            {
                "up": up.first_id,
                "down": down.first_id,
                "kind": kind,
                "last": up.first_id + up.n_features - 1,
            },
        ).fetchall()
        seen += len(rows)
        decoder_u, decoder_d = u.W_dec.detach().numpy(), d.W_dec.detach().numpy()
        cosine = decoder_u @ decoder_d.T
        cosine /= np.linalg.norm(decoder_u, axis=1)[:, None] * np.linalg.norm(decoder_d, axis=1)
        near = best_at_either_end(cosine, dense.recipe.edges.top_k)
        weights = decoder_u @ d.W_enc.detach().numpy()
        proposed = {"cosine": near, "twera": twera_pairs(dense, up, down, weights)}
        assert {(src, dst) for src, dst, *_ in rows} == set().union(*proposed.values())
        for src, dst, value, both, pearson, weight, attribution, twera, found_by in rows:
            x, y = dense.codes[up.number][:, src], dense.codes[down.number][:, dst]
            assert value == pytest.approx(cosine[src, dst], abs=1e-5)
            assert both == ((x != 0) & (y != 0)).sum()
            assert weight == pytest.approx(
                decoder_u[src] @ d.W_enc.detach().numpy()[:, dst], rel=1e-3, abs=1e-4
            )
            if x.any() and y.any():
                assert pearson == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-3)
            else:
                assert pearson is None
            shared = (x != 0) & (y != 0)
            loss = weight * (x[shared] / y[shared]).mean() if shared.any() else None
            traffic = weight * (x * y).mean() / y.mean() if y.any() else None
            assert attribution == (None if loss is None else pytest.approx(loss, rel=1e-3, abs=1e-5))
            assert twera == (None if traffic is None else pytest.approx(traffic, rel=1e-3, abs=1e-5))
            assert found_by == ",".join(name for name in FINDERS if (src, dst) in proposed.get(name, ()))
    assert column(graph, "select count(*) from edge") == [seen]


def best_at_either_end(score: Matrix, k: int) -> set[tuple[int, int]]:
    """The pairs that are among the k best of their row or of their column; NaN is none of them."""
    score = np.where(np.isnan(score), -np.inf, score)
    out = {(i, int(j)) for i in range(len(score)) for j in np.argsort(-score[i], kind="stable")[:k]}
    into = {(int(i), j) for j in range(score.shape[1]) for i in np.argsort(-score[:, j], kind="stable")[:k]}
    return {(i, j) for i, j in out | into if np.isfinite(score[i, j])}


def twera_pairs(dense: Dense, up: SaeRange, down: SaeRange, weights: Matrix) -> set[tuple[int, int]]:
    """The pairs that fire together often enough and are among the best of either end by predicted cause."""
    plan = dense.recipe.edges
    x, y = dense.codes[up.number].astype(float), dense.codes[down.number].astype(float)
    both = (x != 0).astype(float).T @ (y != 0).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        twera = weights * (x.T @ y / y.sum(0))
    usable = (both >= plan.min_support) & (twera > 0)
    return best_at_either_end(np.where(usable, twera, np.nan), plan.twera_k)


def test_scores_are_the_largest_cosines_to_each_writer(dense: Dense, graph: Graph) -> None:
    by_place = {(loaded.layer, loaded.site): loaded for loaded in dense.saes}
    for loaded in dense.saes:
        layer, site = loaded.layer, loaded.site
        rows = graph.store.connection.execute(
            "select s_res, s_mlp, s_att from feature where layer = ? and site = ? order by id", [layer, site]
        ).fetchall()
        writers = [by_place.get((layer - 1, "res")), by_place[layer, "mlp"], by_place[layer, "att"]]
        for place, writer in enumerate(writers):
            scores = [row[place] for row in rows]
            if site != "res" or writer is None:
                assert scores == [None] * len(scores)
                continue
            expected = (writer.directions @ loaded.directions.T).max(axis=0)
            np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_examples_are_the_strongest_contexts_with_their_activations(dense: Dense, graph: Graph) -> None:
    row = np.array(dense.row)
    for sae_range, codes in zip(dense.sae_ranges[:3], dense.codes[:3], strict=True):
        for idx in range(0, sae_range.n_features, 7):
            rows = graph.store.connection.execute(
                "select rank, activation, token_index, tokens, activations from example where feature = ? "
                "order by rank",
                [sae_range.first_id + idx],
            ).fetchall()
            peaks = [codes[row == number, idx].max() for number in range(len(dense.token_rows.rows))]
            expected = sorted((peak for peak in peaks if peak > 0), reverse=True)[:10]
            assert [row[0] for row in rows] == list(range(1, len(expected) + 1))
            np.testing.assert_allclose([row[1] for row in rows], expected, rtol=1e-4)
            for _, activation, place, tokens, activations in rows:
                assert len(tokens) == len(activations)
                assert activations[place] == pytest.approx(activation)
                assert activation == max(activations)


def test_ids_are_dense_and_every_edge_goes_forward(graph: Graph) -> None:
    assert column(graph, "select id from feature order by id") == list(range(9 * 40))
    assert column(graph, "select count(*) from edge where src >= dst") == [0]
    assert column(graph, "select count(*) from edge where cosine is null") == [0]


def test_thresholds_lie_above_the_null_and_high_at_or_above_low(dense: Dense, graph: Graph) -> None:
    rng = np.random.default_rng(99)
    alive = [(codes != 0).any(axis=0) for codes in dense.codes]
    rows = graph.store.connection.execute(
        "select threshold_low, threshold_high from sae order by number"
    ).fetchall()
    for place, (loaded, (low, high)) in enumerate(zip(dense.saes, rows, strict=True)):
        before = [sae_range.number for sae_range in dense.sae_ranges[:place] if sae_range.site == "res"]
        up = before[-1] if loaded.site == "res" and before else place
        upstream, own = dense.saes[up].directions[alive[up]], loaded.directions[alive[place]]
        best = []
        for _ in range(40):
            rotation, _ = np.linalg.qr(rng.standard_normal((16, 16)))
            best.append((upstream @ rotation @ own.T).max(axis=0))
        chance = np.concatenate(best)
        assert (chance > low).mean() < 0.02
        assert low < chance.max() + 0.1
        assert high == pytest.approx(max(low, 0.5))


@pytest.mark.thorough
def test_the_same_recipe_twice_gives_identical_tables(
    small: Path, small_recipe: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again.featgraph"
    ingest(read_recipe(small_recipe), again)
    assert differences(small, again) == []


def test_the_file_is_in_the_older_storage_format(small: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"attach '{small / 'graph.duckdb'}' as graph (read_only)")
        [(tags,)] = connection.execute(
            "select tags::varchar from duckdb_databases() where database_name = 'graph'"
        ).fetchall()
    assert "v1.5" in tags


def test_a_tokenizer_beyond_the_embedding_is_refused_before_encoding(
    small_recipe: Path, tmp_path: Path
) -> None:
    shutil.copytree(small_recipe.parent / "small", tmp_path / "small")
    recipe = Path(shutil.copy(small_recipe, tmp_path / "small.toml"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "small" / "model")
    assert tokenizer.add_tokens(["sat on"]) == 1
    tokenizer.save_pretrained(tmp_path / "small" / "model")
    with pytest.raises(SourceError, match=r"gives token \d+ \('sat on'\), but the model has \d+ embeddings"):
        ingest(read_recipe(recipe), tmp_path / "x.featgraph")

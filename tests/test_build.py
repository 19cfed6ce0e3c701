"""A real ingest of a small random suite, checked number by number against dense numpy over the whole text."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pytest
import torch

import featgraph
from featgraph import suite
from featgraph.activations import Pieces, read_pieces
from featgraph.arrays import Matrix
from featgraph.build import ingest
from featgraph.graph import Graph
from featgraph.model import edge_plan
from featgraph.recipe import Recipe, read_recipe
from featgraph.suite import LanguageModel, LoadedSae


@dataclass
class Dense:
    """The suite's codes as one dense matrix per SAE, and where each row is in the text."""

    recipe: Recipe
    model: LanguageModel
    saes: list[LoadedSae]
    pieces: Pieces
    codes: list[Matrix]
    residuals: list[Matrix]
    token: list[int]
    piece: list[int]


@pytest.fixture(scope="module")
def dense(small_recipe: Path) -> Dense:
    """Each piece of text through the model on its own, unpadded, so that batching is put to the test."""
    recipe = read_recipe(small_recipe)
    model = suite.load_model(recipe)
    saes: list[LoadedSae] = []
    for layer in range(recipe.layers):
        for source in recipe.sources:
            first = sum(loaded.slab.n_features for loaded in saes)
            saes.append(suite.load_sae(recipe, source, layer, len(saes), first, model))
    pieces = read_pieces(recipe.text, model)
    kept: dict[str, torch.Tensor] = {}
    for loaded in saes:

        def hook(_module: object, _inputs: object, output: object, name: str = loaded.module) -> None:
            kept[name] = output[0] if isinstance(output, tuple) else output  # type: ignore[assignment]

        model.model.get_submodule(loaded.module).register_forward_hook(hook)
    codes: list[list[Matrix]] = [[] for _ in saes]
    residuals: list[list[Matrix]] = [[] for _ in saes]
    token, piece = [], []
    with torch.inference_mode():
        for number, row in enumerate(pieces.rows):
            model.model(torch.from_numpy(row.astype(np.int64))[None])
            for place, loaded in enumerate(saes):
                activations = kept[loaded.module][0, 1:]
                residuals[place].append(activations.numpy())
                codes[place].append(loaded.sae.encode(activations).numpy())
            token += row[1:].tolist()
            piece += [number] * (len(row) - 1)
    stacked = [np.concatenate(parts) for parts in codes]
    return Dense(
        recipe, model, saes, pieces, stacked, [np.concatenate(parts) for parts in residuals], token, piece
    )


@pytest.fixture(scope="module")
def graph(small: Path) -> Iterator[Graph]:
    with featgraph.open(small) as opened:
        yield opened


def column(graph: Graph, statement: str) -> list[object]:
    return [row[0] for row in graph.store.connection.execute(statement).fetchall()]


def test_the_text_is_read_up_to_the_token_limit_without_bos(dense: Dense, graph: Graph) -> None:
    assert dense.pieces.n_tokens == dense.recipe.text.tokens == len(dense.token)
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
    rows = graph.store.connection.execute("select l0, explained_variance from sae order by slab").fetchall()
    for loaded, codes, x, (l0, explained) in zip(dense.saes, dense.codes, dense.residuals, rows, strict=True):
        assert l0 == pytest.approx((codes != 0).sum(axis=1).mean(), rel=1e-5)
        with torch.inference_mode():
            rebuilt = loaded.sae.decode(torch.from_numpy(codes)).numpy()
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
    plan = edge_plan([loaded.slab for loaded in dense.saes], dense.recipe.edges.kinds)
    assert [kind for _, _, kind in plan].count("res_res") == 2
    seen = 0
    for up, down, kind in plan:
        u, d = dense.saes[up.slab], dense.saes[down.slab]
        rows = graph.store.connection.execute(
            "select src, dst, cosine, n_both, pearson, virtual_weight from edge where kind = ? "
            "and src between ? and ? order by src, dst",
            [kind, up.first_id, up.first_id + up.n_features - 1],
        ).fetchall()
        seen += len(rows)
        decoder_u = u.sae.W_dec.detach().numpy()
        decoder_d = d.sae.W_dec.detach().numpy()
        cosine = decoder_u @ decoder_d.T
        cosine /= np.linalg.norm(decoder_u, axis=1)[:, None] * np.linalg.norm(decoder_d, axis=1)
        assert {(src, dst) for src, dst, *_ in rows} == kept_pairs(cosine, dense.recipe.edges.top_k, up, down)
        for src, dst, value, both, pearson, weight in rows:
            i, j = src - up.first_id, dst - down.first_id
            x, y = dense.codes[up.slab][:, i], dense.codes[down.slab][:, j]
            assert value == pytest.approx(cosine[i, j], abs=1e-5)
            assert both == ((x != 0) & (y != 0)).sum()
            encoder = d.sae.W_enc.detach().numpy()[:, j]
            assert weight == pytest.approx(decoder_u[i] @ encoder, rel=1e-3, abs=1e-4)
            if x.any() and y.any():
                assert pearson == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-3)
            else:
                assert pearson is None
    assert column(graph, "select count(*) from edge") == [seen]


def kept_pairs(cosine: Matrix, k: int, up: object, down: object) -> set[tuple[int, int]]:
    first_u, first_d = up.first_id, down.first_id  # type: ignore[attr-defined]
    out = {(i, int(j)) for i in range(len(cosine)) for j in np.argsort(-cosine[i], kind="stable")[:k]}
    into = {(int(i), j) for j in range(cosine.shape[1]) for i in np.argsort(-cosine[:, j], kind="stable")[:k]}
    return {(first_u + i, first_d + j) for i, j in out | into}


def test_scores_are_the_largest_cosines_to_each_writer(dense: Dense, graph: Graph) -> None:
    by_place = {(loaded.slab.layer, loaded.slab.site): loaded for loaded in dense.saes}
    for loaded in dense.saes:
        layer, site = loaded.slab.layer, loaded.slab.site
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
    piece = np.array(dense.piece)
    for loaded, codes in zip(dense.saes[:3], dense.codes[:3], strict=True):
        for idx in range(0, loaded.slab.n_features, 7):
            rows = graph.store.connection.execute(
                "select rank, activation, token_index, tokens, activations from example where feature = ? "
                "order by rank",
                [loaded.slab.first_id + idx],
            ).fetchall()
            peaks = [codes[piece == number, idx].max() for number in range(len(dense.pieces.rows))]
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
        "select threshold_low, threshold_high from sae order by slab"
    ).fetchall()
    for loaded, (low, high) in zip(dense.saes, rows, strict=True):
        place = loaded.slab.slab
        before = [sae.slab.slab for sae in dense.saes[:place] if sae.slab.site == "res"]
        up = before[-1] if loaded.slab.site == "res" and before else place
        upstream, own = dense.saes[up].directions[alive[up]], loaded.directions[alive[place]]
        best = []
        for _ in range(40):
            rotation, _ = np.linalg.qr(rng.standard_normal((16, 16)))
            best.append((upstream @ rotation @ own.T).max(axis=0))
        chance = np.concatenate(best)
        assert (chance > low).mean() < 0.02
        assert low < chance.max() + 0.1
        assert high == pytest.approx(max(low, 0.5))


def test_the_same_recipe_twice_gives_identical_tables(
    small: Path, small_recipe: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again.featgraph"
    ingest(read_recipe(small_recipe), again)
    with duckdb.connect() as both:
        both.execute(f"attach '{small / 'graph.duckdb'}' as one (read_only)")
        both.execute(f"attach '{again / 'graph.duckdb'}' as two (read_only)")
        for table in ("sae", "feature", "edge", "example", "label", "meta"):
            for left, right in (("one", "two"), ("two", "one")):
                difference = f"(from {left}.{table} except all from {right}.{table})"
                assert both.execute(f"select count(*) from {difference}").fetchall() == [(0,)], table
    for index in sorted((small / "vectors").iterdir()):
        assert index.read_bytes() == (again / "vectors" / index.name).read_bytes()


def test_the_file_is_in_the_older_storage_format(small: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"attach '{small / 'graph.duckdb'}' as graph (read_only)")
        [(tags,)] = connection.execute(
            "select tags::varchar from duckdb_databases() where database_name = 'graph'"
        ).fetchall()
    assert "v1.5" in tags

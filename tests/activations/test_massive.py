"""Massive activations: what is left out of an ingest, held against a dense count over all other tokens."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import featgraph
from featgraph import suite
from featgraph.activations import TokenRows, massive, read_shards
from featgraph.activations.forward import Sites
from featgraph.core.arrays import Matrix
from featgraph.errors import RecipeError
from featgraph.graph import Graph
from featgraph.ingestion import ingest
from featgraph.query.overview import overview
from featgraph.recipe import read_recipe
from featgraph.suite import LoadedSae
from helpers.small_suite import build_small_suite

WORD = " red"
"""Its embedding is made 300 times as long, so that all of the stream is; mlp and att are not."""

PAIR = (1, 2)
"""Layers of the residual SAEs whose edge is held against the dense count."""


@dataclass
class Counted:
    """A site's tensor and codes on every token that is not BOS, in the order of the text."""

    loaded: LoadedSae
    tensor: Matrix
    codes: Matrix
    kept: np.ndarray


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = build_small_suite(tmp_path_factory.mktemp("massive"))
    loaded = suite.load_model(read_recipe(path))
    [word] = loaded.tokenizer(WORD, add_special_tokens=False)["input_ids"][:1]
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight[word] *= 300
    loaded.model.save_pretrained(path.parent / "small" / "model")
    return path


@pytest.fixture(scope="module")
def graph(recipe: Path) -> Iterator[Graph]:
    out = recipe.parent / "massive.featgraph"
    ingest(read_recipe(recipe), out)
    with featgraph.open(out) as opened:
        yield opened


@pytest.fixture(scope="module")
def counted(recipe: Path) -> dict[tuple[int, str], Counted]:
    read = read_recipe(recipe)
    assert read.text is not None
    model = suite.load_model(read)
    saes = [suite.load_sae(read, source, layer, model) for layer, source in read.places]
    rows = [row for shard in read_shards(read.text, model.tokenizer) for row in shard.rows]
    return {(loaded.layer, loaded.site): _counted(model, loaded, rows) for loaded in saes}


def _counted(model: suite.LanguageModel, loaded: LoadedSae, rows: list[np.ndarray]) -> Counted:
    assert loaded.reading is not None
    assert loaded.sae is not None
    sites = Sites(model, [loaded.reading])
    special = frozenset(model.tokenizer.all_special_ids)
    read = [sites(batch)[loaded.reading] for row in rows for batch in TokenRows([row], special).batches()]
    tensor = torch.cat(read)
    with torch.inference_mode():
        codes = torch.cat([loaded.sae.encode(part) for part in read]).numpy()
    norms = tensor.norm(dim=1).numpy()
    return Counted(loaded, tensor.numpy(), codes, norms <= 10 * np.median(norms))


def column(graph: Graph, statement: str) -> Any:
    return np.array([row[0] for row in graph.store.connection.execute(statement).fetchall()])


def rows_of(graph: Graph, statement: str) -> list[Any]:
    return list(graph.sql(statement, max_rows=None).rows)


def test_some_tokens_are_massive_in_the_stream_and_none_where_norms_stand_before(
    counted: dict[tuple[int, str], Counted],
) -> None:
    left_out = {place: int((~one.kept).sum()) for place, one in counted.items()}
    assert 3 < left_out[0, "res"] == left_out[1, "res"] == left_out[2, "res"]
    assert {left_out[layer, site] for layer in range(3) for site in ("mlp", "att")} == {0}


def test_they_are_counted_per_sae(graph: Graph, counted: dict[tuple[int, str], Counted]) -> None:
    rows = rows_of(graph, "select layer, site, n_massive, massive_norm from sae")
    for layer, site, n_massive, norm in rows:
        one = counted[layer, site]
        assert n_massive == (~one.kept).sum()
        assert norm == pytest.approx(10 * np.median(np.linalg.norm(one.tensor, axis=1)), rel=1e-4)


def test_statistics_are_those_of_all_other_tokens(
    graph: Graph, counted: dict[tuple[int, str], Counted]
) -> None:
    for place, one in counted.items():
        layer, site = place
        where = f"from feature where layer = {layer} and site = '{site}' order by id"
        codes = one.codes[one.kept]
        fires = codes != 0
        np.testing.assert_allclose(column(graph, f"select density {where}"), fires.mean(axis=0), atol=1e-6)
        live = fires.any(axis=0)
        largest = np.array(column(graph, f"select max_activation {where}"), dtype=float)
        np.testing.assert_allclose(largest[live], codes.max(axis=0)[live], rtol=1e-4)
        mean = np.array(column(graph, f"select mean_activation {where}"), dtype=float)
        wanted = codes.sum(axis=0)[live] / fires.sum(axis=0)[live]
        np.testing.assert_allclose(mean[live], wanted, rtol=1e-4)
        assert np.isnan(largest[~live]).all()
        [l0] = column(graph, f"select l0 from sae where layer = {layer} and site = '{site}'")
        assert l0 == pytest.approx(fires.sum(axis=1).mean(), rel=1e-4)


def test_explained_variance_is_that_of_all_other_tokens(
    graph: Graph, counted: dict[tuple[int, str], Counted]
) -> None:
    for (layer, site), one in counted.items():
        kept = torch.from_numpy(one.tensor[one.kept]).double()
        assert one.loaded.sae is not None
        with torch.inference_mode():
            made = one.loaded.sae.decode(torch.from_numpy(one.codes[one.kept])).double()
        wanted = 1 - float((kept - made).square().sum() / (kept - kept.mean(dim=0)).square().sum())
        [(value, error)] = rows_of(
            graph,
            "select explained_variance, explained_variance_se from sae "
            f"where layer = {layer} and site = '{site}'",
        )
        assert value == pytest.approx(wanted, rel=1e-4)
        assert error > 0


@pytest.mark.parametrize("ends", [((1, "res"), (2, "res")), ((2, "mlp"), (2, "res"))])
def test_edges_are_measured_on_the_tokens_that_count_at_both_ends(
    graph: Graph, counted: dict[tuple[int, str], Counted], ends: tuple[tuple[int, str], tuple[int, str]]
) -> None:
    up, down = (counted[end] for end in ends)
    kept = up.kept & down.kept
    u, d = up.codes[kept].astype(float), down.codes[kept].astype(float)
    (layer, site), (below, _) = ends
    rows = graph.sql(
        "select a.idx, b.idx, n_both, pearson, jaccard, necessity from edge e join feature a on a.id = e.src "
        f"join feature b on b.id = e.dst where a.layer = {layer} and a.site = '{site}' and b.layer = {below} "
        "and b.site = 'res'",
        max_rows=None,
    ).rows
    assert len(rows) > 50
    for src, dst, n_both, pearson, jaccard, necessity in rows:
        both = (u[:, src] != 0) & (d[:, dst] != 0)
        either = (u[:, src] != 0) | (d[:, dst] != 0)
        assert n_both == both.sum()
        if pearson is not None:
            assert pearson == pytest.approx(np.corrcoef(u[:, src], d[:, dst])[0, 1], abs=1e-4)
        if jaccard is not None:
            assert jaccard == pytest.approx(both.sum() / either.sum(), abs=1e-5)
        if necessity is not None:
            assert necessity == pytest.approx(both.sum() / (d[:, dst] != 0).sum(), abs=1e-5)


def test_no_example_peaks_on_one_and_none_is_a_top_token(graph: Graph) -> None:
    peaks = rows_of(
        graph,
        "select tokens[token_index + 1] as peak from example e join feature f on f.id = e.feature "
        "where site = 'res'",
    )
    assert len(peaks) > 50
    assert WORD not in {peak for (peak,) in peaks}
    tops = rows_of(graph, "select top_tokens from feature where site = 'res'")
    assert WORD not in {token for (tokens,) in tops for token in tokens or []}
    others = rows_of(graph, "select top_tokens from feature where site = 'mlp'")
    assert WORD in {token for (tokens,) in others for token in tokens or []}


def test_activate_lights_nothing_on_them(graph: Graph) -> None:
    from featgraph.features.active import active_features

    lit = active_features(graph.store, "a red ball and a red cat")
    words = [lit.tokens[token] for token in lit.token]
    assert words
    assert WORD not in words


def test_info_and_health_say_how_many(graph: Graph) -> None:
    sections = {section.title: section.result for section in overview(graph.store)}
    n = graph.sql("select max(n_massive) from sae").rows[0][0]
    assert "n_massive" in sections["saes"].columns
    [detail] = [str(row[2]) for row in sections["health"].rows if row[0] == "massive"]
    assert detail.startswith(f"{n} of 250 tokens left out at ")
    assert "and some at 3 of 9 SAEs" in detail


def test_the_manifest_says_the_multiple(graph: Graph) -> None:
    manifest = json.loads((graph.store.path / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["text"]["massive"] == 10


@pytest.mark.thorough
def test_a_recipe_may_leave_none_out(recipe: Path, counted: dict[tuple[int, str], Counted]) -> None:
    other = recipe.with_name("all.toml")
    text = recipe.read_text(encoding="utf-8").replace("context = 12", "context = 12\nmassive = 0")
    other.write_text(text, encoding="utf-8")
    out = recipe.with_name("all.featgraph")
    ingest(read_recipe(other), out)
    with featgraph.open(out) as opened:
        assert opened.sql("select max(n_massive), count(massive_norm) from sae").rows == [(0, 0)]
        where = "from feature where layer = 1 and site = 'res' order by id"
        density = column(opened, f"select density {where}")
        np.testing.assert_allclose(density, (counted[1, "res"].codes != 0).mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("value", ["1", "0.5", "-3", "nan", "inf"])
def test_a_multiple_that_leaves_out_half_of_the_tokens_is_refused(recipe: Path, value: str) -> None:
    other = recipe.with_name("bad.toml")
    text = recipe.read_text(encoding="utf-8").replace("context = 12", f"context = 12\nmassive = {value}")
    other.write_text(text, encoding="utf-8")
    with pytest.raises(
        RecipeError, match=r"bad\.toml:\d+: 'text\.massive' is .* give a number above 1, or 0"
    ):
        read_recipe(other)


def test_the_median_is_that_of_the_first_tokens_of_the_text(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(massive, "MEDIAN_TOKENS", 20)
    rows = [np.arange(start, start + 9, dtype=np.int32) for start in range(0, 90, 9)]
    assert len(massive.opening_rows(TokenRows(rows, frozenset({0}))).rows) == 3
    assert len(massive.opening_rows(TokenRows(rows[:1], frozenset({0}))).rows) == 1

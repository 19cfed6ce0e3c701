"""A graph of directions alone: the same geometry as with a text, and NULL for everything that needs one."""

import shutil
from pathlib import Path

import duckdb
import pytest

import featgraph
from featgraph.ingestion import ingest
from featgraph.recipe import read_recipe
from helpers.same_tables import TABLES


@pytest.fixture(scope="module")
def data_free(small_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small suite without its text, and without the model's weights, which nothing may ask for."""
    folder = tmp_path_factory.mktemp("suite")
    shutil.copytree(small_recipe.parent, folder, dirs_exist_ok=True)
    for weights in (folder / "small" / "model").glob("*.safetensors"):
        weights.unlink()
    (folder / "small" / "text.txt.gz").unlink()
    path = folder / "free.featgraph"
    ingest(read_recipe(folder / small_recipe.name).data_free(), path)
    return path


def test_the_geometry_is_that_of_the_whole_graph(data_free: Path, small: Path) -> None:
    with duckdb.connect() as both:
        both.execute(f"attach '{small / 'graph.duckdb'}' as whole (read_only)")
        both.execute(f"attach '{data_free / 'graph.duckdb'}' as free (read_only)")
        edges = "select src, dst, kind, cosine, virtual_weight from {}.edge"
        by_cosine = edges.format("whole") + " where found_by like 'cosine%'"
        for left, right in ((edges.format("free"), by_cosine), (by_cosine, edges.format("free"))):
            assert both.execute(f"select count(*) from ({left} except all {right})").fetchall() == [(0,)]
        features = (
            "select id, key, layer, site, idx, decoder_norm, encoder_alignment, s_res, s_mlp, s_att "
            "from {}.feature"
        )
        for left, right in (("free", "whole"), ("whole", "free")):
            compared = f"{features.format(left)} except all {features.format(right)}"
            assert both.execute(f"select count(*) from ({compared})").fetchall() == [(0,)]


def test_what_needs_a_text_is_null(data_free: Path) -> None:
    needs = {
        "sae": ("n_dead", "l0", "explained_variance"),
        "feature": ("density", "mean_activation", "max_activation", "top_tokens", "logit_tokens"),
        "edge": ("n_both", "jaccard", "necessity", "sufficiency", "pearson", "attribution", "twera"),
    }
    with featgraph.open(data_free) as graph:
        for table, columns in needs.items():
            counts = ", ".join(f"count({column})" for column in columns)
            [row] = graph.store.rows(f"select {counts}, count(*) from {table}")
            assert row[:-1] == (0,) * len(columns)
            assert row[-1] > 0
        for table in ("example", "label"):
            assert graph.store.rows(f"select count(*) from {table}") == [(0,)]
        assert graph.manifest["text"] is None
    assert set(needs) < set(TABLES)


def test_the_verbs_and_the_overview_answer(data_free: Path) -> None:
    from featgraph.query.overview import overview

    with featgraph.open(data_free) as graph:
        for verb in ("splits()", "merges()", "births()", "deaths()", "chains()", "flow()"):
            graph.sql(f"select count(*) from {verb}")
        lineage = graph.lineage("1/res/3", min=0.0)
        assert len(lineage.members) > 1
        sections = {section.title: section.result for section in overview(graph.store)}
        assert all(row[1] for row in sections["health"].rows)

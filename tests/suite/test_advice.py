"""Advice about a recipe's layers, text and memory before a download."""

from dataclasses import replace
from pathlib import Path

import pytest

from featgraph.activations.tokens import BATCH_TOKENS
from featgraph.errors import SourceError
from featgraph.recipe import EdgePlan, Recipe, SaeSource, read_recipe
from featgraph.suite import estimate as sizes
from featgraph.suite.advice import impossible_edges, sae_layers
from featgraph.suite.fits import check_context, check_folder_context
from featgraph.suite.new_recipe import write_recipe
from helpers.one_sae import recipe_of
from helpers.sae_files import D_IN, save_sparsify
from helpers.small_suite import save_model


def with_layers(folder: Path, kinds: tuple[str, ...], **layers: tuple[int, ...]) -> Recipe:
    sources = tuple(SaeSource(site, path="x", layers=at) for site, at in layers.items())  # type: ignore[arg-type]
    plan = EdgePlan(kinds, 1, 0, 1)  # type: ignore[arg-type]
    return replace(recipe_of(folder / "sae", "res"), declared=sources, layers=10, edges=plan)


@pytest.mark.parametrize(
    ("kinds", "layers", "said"),
    [
        (
            ("res_res", "mlp_res"),
            {"res": (5,), "mlp": (6,)},
            ["res_res: there are not two", "mlp_res: no layer"],
        ),
        (("res_res",), {"res": (4, 5, 7)}, ["res_res: layers between have no res SAE, .* (5 to 7)"]),
        (("mlp_res",), {"res": (4, 5), "mlp": (5, 6)}, ["mlp_res: none from mlp at 6"]),
        (("res_res", "mlp_res"), {"res": (4, 5), "mlp": (4, 5)}, []),
    ],
)
def test_edges_that_cannot_be_are_said(
    tmp_path: Path, kinds: tuple[str, ...], layers: dict[str, tuple[int, ...]], said: list[str]
) -> None:
    found = impossible_edges(with_layers(tmp_path, kinds, **layers))
    assert len(found) == len(said)
    for line, start in zip(found, said, strict=True):
        assert all(part in line for part in start.split(" .* "))


def test_layers_with_saes_are_listed_as_ranges(tmp_path: Path) -> None:
    recipe = with_layers(tmp_path, ("res_res",), res=(0, 1, 2, 5), mlp=(1,))
    assert sae_layers(recipe) == "res at 0-2, 5; mlp at 1"


def test_a_new_recipe_takes_the_models_layers_the_text_and_a_context_that_fits(tmp_path: Path) -> None:
    save_model(tmp_path / "model", D_IN)
    for layer in (0, 1):
        save_sparsify(tmp_path / "saes" / f"layers.{layer}")
    (tmp_path / "text.txt").write_text("one<|endoftext|>two", encoding="utf-8")
    recipe = write_recipe(
        str(tmp_path / "model"), tmp_path / "r.toml", saes=tmp_path / "saes", text=str(tmp_path / "text.txt")
    )
    assert recipe.layers == 3
    assert [source.layers for source in recipe.sources] == [(0, 1)]
    assert recipe.text is not None
    assert (recipe.text.path, recipe.text.separator) == (tmp_path / "text.txt", "<|endoftext|>")
    assert recipe.text.context == 64


def test_a_context_beyond_the_models_positions_is_refused(small_recipe: Path) -> None:
    recipe = read_recipe(small_recipe)
    assert recipe.text is not None
    longer = replace(recipe, text=replace(recipe.text, context=65))
    with pytest.raises(SourceError, match=r"a context of 65 tokens is longer than the 64 .*= 64"):
        check_folder_context(longer)
    check_folder_context(replace(recipe, text=replace(recipe.text, context=64)))
    check_context(longer, {"alibi": True})


def test_the_memory_of_one_pass_is_that_of_all_saes(small_recipe: Path) -> None:
    assert sizes.BATCH == BATCH_TOKENS
    recipe = read_recipe(small_recipe)
    needs = sizes.estimate(recipe)
    assert needs.one_pass is not None
    assert needs.memory is not None
    assert needs.one_pass > needs.memory
    assert sizes.estimate(recipe.data_free()).one_pass == sizes.estimate(recipe.data_free()).memory

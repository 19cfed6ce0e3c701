"""New recipes: what `recipe init` writes can be read, resolves, and takes what is there."""

import json
import tomllib
from pathlib import Path

import pytest

from featgraph.errors import SourceError, UsageError
from featgraph.recipe import EdgePlan, Recipe
from featgraph.suite.new_recipe import short_name, write_recipe
from featgraph.suite.registry import releases_of, resolve
from helpers.small_suite import build_small_suite, save_sae

RESIDUAL = [
    "google/gemma-2-2b",
    "google/gemma-2-9b",
    "google/gemma-2-27b",
    "google/gemma-3-270m",
    "google/gemma-3-27b-pt",
    "openai-community/gpt2",
    "openai/gpt-oss-20b",
    "EleutherAI/pythia-70m-deduped",
    "meta-llama/Llama-3.1-8B",
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
    "Qwen/Qwen3-8B-Base",
]
NO_SITE = {
    "gpt2-small-resid-mid-v5-32k",
    "gpt2-small-resid-mid-v5-128k",
    "mntss-gemma-2-2b-2.5m-clt-as-per-layer",
}
"""Between attention and MLP, or with decoders summed over layers: not for a feature graph."""


def sources(recipe: Recipe) -> dict[str, tuple[str | None, str | None]]:
    return {source.site: (source.release, source.sae_id) for source in recipe.sources}


@pytest.mark.parametrize("model", RESIDUAL)
def test_the_sae_ids_of_a_new_recipe_are_in_the_registry(tmp_path: Path, model: str) -> None:
    recipe = write_recipe(model, tmp_path / "new.toml")
    assert recipe.model.hf == model
    assert "res" in recipe.sites
    for at_width in [recipe.with_width(width.name) for width in recipe.widths] or [recipe]:
        assert len(resolve(at_width)) == len(at_width.places)


@pytest.mark.thorough
@pytest.mark.parametrize("model", RESIDUAL)
def test_every_release_of_the_model_is_named(tmp_path: Path, model: str) -> None:
    text = write_recipe(model, tmp_path / "new.toml").file.read_text()
    assert {release.name for release in releases_of(model) if release.name not in text} <= NO_SITE


def test_the_sites_of_one_suite_are_taken_together(tmp_path: Path) -> None:
    assert sources(write_recipe("openai-community/gpt2", tmp_path / "new.toml")) == {
        "res": ("gpt2-small-resid-post-v5-32k", "blocks.{layer}.hook_resid_post"),
        "mlp": ("gpt2-small-mlp-out-v5-32k", "blocks.{layer}.hook_mlp_out"),
        "att": ("gpt2-small-attn-out-v5-32k", "blocks.{layer}.hook_attn_out"),
    }


def test_only_the_releases_asked_for_are_taken(tmp_path: Path) -> None:
    wanted = ["gemma-scope-2b-pt-res", "gemma-scope-2b-pt-transcoders"]
    recipe = write_recipe("google/gemma-2-2b", tmp_path / "new.toml", releases=wanted)
    assert sources(recipe) == {
        "res": (wanted[0], "layer_{layer}/width_{width}/average_l0_{l0}"),
        "mlp": (wanted[1], "layer_{layer}/width_{width}/average_l0_{l0}"),
    }
    assert "gemma-scope-2b-pt-att" not in recipe.file.read_text()


def test_a_site_without_a_width_takes_part_in_the_others(tmp_path: Path) -> None:
    wanted = ["gemma-scope-2b-pt-res", "gemma-scope-2b-pt-transcoders"]
    recipe = write_recipe("google/gemma-2-2b", tmp_path / "new.toml", releases=wanted)
    assert [width.name for width in recipe.widths] == ["16k", "65k"]
    assert recipe.with_width("65k").sites == ("res",)


def test_a_file_that_is_there_is_kept_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "new.toml"
    path.write_text("mine")
    with pytest.raises(UsageError, match=r"new\.toml exists already; --force replaces it"):
        write_recipe("google/gemma-2-2b", path)
    assert path.read_text() == "mine"
    assert write_recipe("google/gemma-2-2b", path, force=True).layers == 26


@pytest.mark.parametrize(
    ("model", "releases", "expected"),
    [
        ("google/gemma-2-2c", [], "knows no SAEs for 'google/gemma-2-2c'; did you mean 'gemma-2-2b'?"),
        ("x", ["gemma-scope-2b-pt-rse"], "no release 'gemma-scope-2b-pt-rse' in the registry of sae_lens"),
        ("Qwen/Qwen3-8B", [], "no SAE of the residual stream, which every suite needs"),
    ],
)
def test_a_recipe_that_cannot_be_written_is_an_error_and_leaves_no_file(
    tmp_path: Path, model: str, releases: list[str], expected: str
) -> None:
    with pytest.raises(UsageError) as caught:
        write_recipe(model, tmp_path / "new.toml", releases=releases)
    assert expected in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_ends_in_toml(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"does not end in \.toml"):
        write_recipe("google/gemma-2-2b", tmp_path / "new.txt")
    assert short_name("google/gemma-2-2b") == short_name("models/gemma-2-2b/") == "gemma-2-2b"


# ---- one's own SAEs


def test_own_sae_lens_folders_are_found_by_their_hooks(tmp_path: Path) -> None:
    build_small_suite(tmp_path)
    (tmp_path / "recipes").mkdir()
    model, saes = tmp_path / "small" / "model", tmp_path / "small" / "saes"
    recipe = write_recipe(str(model), tmp_path / "recipes" / "new.toml", saes=saes)
    assert (recipe.layers, recipe.sites) == (3, ("att", "mlp", "res"))
    assert {source.path for source in recipe.sources} == {
        f"../small/saes/{{layer}}.{site}" for site in recipe.sites
    }
    assert recipe.model.path is not None
    assert recipe.model.path.resolve() == model
    assert recipe.model.d_model == 16


def test_own_folders_with_names_of_their_own_become_exceptions(tmp_path: Path) -> None:
    for layer, name in enumerate(["a/0", "a/1", "last"]):
        save_sae(tmp_path / "saes" / name, f"model.layers.{layer}")
    recipe = write_recipe("org/model", tmp_path / "new.toml", saes=tmp_path / "saes")
    [source] = recipe.sources
    assert [recipe.sae_name(source, layer) for layer in range(3)] == ["saes/a/0", "saes/a/1", "saes/last"]


def test_layers_without_an_own_sae_are_left_out(tmp_path: Path) -> None:
    for layer in (1, 3):
        save_sae(tmp_path / "saes" / str(layer), f"blocks.{layer}.hook_resid_post")
    recipe = write_recipe("org/model", tmp_path / "new.toml", saes=tmp_path / "saes")
    assert recipe.layers == 4
    assert [layer for layer, _ in recipe.places] == [1, 3]


def test_own_dictionary_learning_and_sparsify_folders_are_found(tmp_path: Path) -> None:
    for layer in range(2):
        one = tmp_path / "saes" / f"resid_post_layer_{layer}" / "trainer_0"
        other = tmp_path / "saes" / f"layers.{layer}.mlp"
        one.mkdir(parents=True)
        other.mkdir()
        (one / "ae.pt").touch()
        trainer = {"layer": layer, "submodule_name": f"resid_post_layer_{layer}"}
        (one / "config.json").write_text(json.dumps({"trainer": trainer}))
        (other / "sae.safetensors").touch()
        (other / "cfg.json").write_text("{}")
    recipe = write_recipe("org/model", tmp_path / "new.toml", saes=tmp_path / "saes")
    assert {source.site: source.path for source in recipe.sources} == {
        "mlp": "saes/layers.{layer}.mlp",
        "res": "saes/resid_post_layer_{layer}/trainer_0",
    }


def test_a_folder_without_saes_or_with_two_of_a_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no SAE below .*: no folder there has one of sae_weights"):
        write_recipe("org/model", tmp_path / "new.toml", saes=tmp_path)
    for name in ("one", "two"):
        save_sae(tmp_path / "saes" / name, "blocks.0.hook_resid_post")
    with pytest.raises(SourceError, match=r"one and two are both 0/res"):
        write_recipe("org/model", tmp_path / "new.toml", saes=tmp_path / "saes")


def test_every_comment_is_beside_valid_toml(tmp_path: Path) -> None:
    recipe = write_recipe("google/gemma-2-2b", tmp_path / "new.toml")
    assert {"title", "seed", "model", "suite", "text"} == set(tomllib.loads(recipe.file.read_text()))
    assert recipe.edges == EdgePlan()

"""sae_lens's registry as read here: as sae_lens itself reads it, and what a recipe's patterns mean in it."""

from pathlib import Path

import pytest
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

from featgraph.errors import RecipeError
from featgraph.recipe import Recipe, read_recipe
from featgraph.suite import registry
from helpers.small_suite import RECIPE


def recipe_of(folder: Path, release: str, sae_id: str, l0: int | None = None) -> Recipe:
    """The small recipe with its residual SAEs taken from a release."""
    source = f'release = "{release}"\nid = "{sae_id}"' + (f"\nl0 = {l0}" if l0 else "")
    path = folder / "suite.toml"
    path.write_text(RECIPE.replace('path = "small/saes/{layer}.res"', source), encoding="utf-8")
    return read_recipe(path)


def resolved(recipe: Recipe) -> list[str]:
    return [one.sae_id for one in registry.resolve(recipe) if one.source.site == "res"]


@pytest.mark.thorough
def test_the_list_is_the_one_that_sae_lens_reads() -> None:
    theirs = get_pretrained_saes_directory()
    ours = registry.releases()
    assert set(ours) == set(theirs)
    for name, release in ours.items():
        assert (release.repo, release.model) == (theirs[name].repo_id, theirs[name].model)
        assert release.layout == (theirs[name].conversion_func or "sae_lens")
        assert {sae_id: sae.path for sae_id, sae in release.saes.items()} == theirs[name].saes_map
        for sae_id, sae in release.saes.items():
            assert sae.neuronpedia == theirs[name].neuronpedia_id[sae_id]
            # sae_lens says 1 and 0 of what is not listed.
            assert (sae.explained_variance or 1.0) == (theirs[name].expected_var_explained[sae_id] or 1.0)
            if theirs[name].expected_l0[sae_id]:
                assert sae.l0 == theirs[name].expected_l0[sae_id]


def test_expectations_are_those_listed_or_nothing() -> None:
    assert registry.expected("gpt2-small-res-jb", "blocks.4.hook_resid_pre") == (0.9, 31.0)
    assert registry.expected("gpt2-small-mlp-out-v5-32k", "blocks.0.hook_mlp_out") == (None, None)
    assert registry.expected("mine", "0.res") == (None, None)


def test_a_canonical_sae_has_the_l0_of_the_one_it_stands_for() -> None:
    release = registry.releases()["gemma-scope-2b-pt-res-canonical"]
    assert release.saes["layer_0/width_16k/canonical"].path.endswith("average_l0_105")
    assert registry.expected(release.name, "layer_0/width_16k/canonical") == (None, 105.0)


def test_releases_of_a_model_are_found_by_any_of_its_names() -> None:
    names = [release.name for release in registry.releases_of("openai-community/gpt2")]
    assert "gpt2-small-res-jb" in names
    assert names == [release.name for release in registry.releases_of("gpt2-small")]
    assert registry.releases_of("no/such-model") == []


@pytest.mark.parametrize("l0", [1, 30, 71, 72, 100, 10_000])
def test_the_published_l0_nearest_to_the_wanted_one_is_picked(tmp_path: Path, l0: int) -> None:
    start = "layer_1/width_16k/average_l0_"
    published = registry.releases()["gemma-scope-2b-pt-res"].saes
    offered = [int(one.removeprefix(start)) for one in published if one.startswith(start)]
    assert len(offered) > 3
    nearest = min(sorted(offered), key=lambda one: abs(one - l0))
    recipe = recipe_of(tmp_path, "gemma-scope-2b-pt-res", f"{start}{{l0}}", l0)
    assert resolved(recipe) == [f"{start}{nearest}"] * 3


def test_an_unknown_id_names_the_nearest(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "gemma-scope-2b-pt-res-canonical", "layer_{layer}/width_17k/canonical")
    with pytest.raises(RecipeError) as caught:
        registry.resolve(recipe)
    message = str(caught.value)
    assert message.startswith(f"{recipe.file}: release gemma-scope-2b-pt-res-canonical has no SAE ")
    assert "'layer_0/width_17k/canonical'" in message
    assert "nearest: 'layer_0/width_16k/canonical'" in message


def test_an_l0_that_no_id_has_names_the_nearest(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "gemma-scope-2b-pt-res", "layer_{layer}/width_17k/average_l0_{l0}", 100)
    with pytest.raises(RecipeError, match=r"has no SAE 'layer_0/width_17k/average_l0_\{l0\}'.*; nearest: "):
        registry.resolve(recipe)


def test_an_unknown_release_names_the_nearest(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "gpt2-small-res-bj", "blocks.{layer}.hook_resid_pre")
    with pytest.raises(RecipeError, match=r"no release 'gpt2-small-res-bj'.*nearest: 'gpt2-small-res-jb'"):
        registry.resolve(recipe)


def test_a_repository_of_the_hub_is_taken_as_it_is(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "me/my-saes", "layer-{layer}")
    assert resolved(recipe) == ["layer-0", "layer-1", "layer-2"]


def test_files_beside_the_recipe_resolve_to_themselves(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "me/my-saes", "layer-{layer}")
    found = registry.resolve(recipe)
    assert [(one.release, one.sae_id) for one in found if one.source.site == "mlp"] == [
        ("", f"small/saes/{layer}.mlp") for layer in range(3)
    ]

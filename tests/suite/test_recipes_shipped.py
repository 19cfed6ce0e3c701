"""Every shipped recipe at every width: sae_lens has its SAEs, and they are all that were published."""

import re
from typing import NamedTuple

import pytest
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

from featgraph.core.keys import block_of
from featgraph.recipe import Recipe, all_recipes, find_recipe
from featgraph.suite.estimate import estimate
from featgraph.suite.registry import normalised, resolve


class Published(NamedTuple):
    """What the makers of a suite published, from their papers, cards and the registry."""

    model: str
    layers: int
    sites: str
    widths: str
    d_model: int
    d_head_outputs: int | None = None


PUBLISHED = {
    "pythia-70m": Published("EleutherAI/pythia-70m-deduped", 6, "att mlp res", "32k", 512),
    "gpt2-v5": Published("openai-community/gpt2", 12, "att mlp res", "32k 128k", 768),
    "gpt2-small-res-jb": Published("openai-community/gpt2", 13, "res", "24k", 768),
    "gpt2-small-feature-splitting": Published("openai-community/gpt2", 8, "res", "", 768),
    "gemma-2-2b": Published("google/gemma-2-2b", 26, "att mlp res", "16k 65k", 2304, 2048),
    "gemma-2-9b": Published("google/gemma-2-9b", 42, "att mlp res", "16k 131k", 3584, 4096),
    "gemma-2-2b-transcoders": Published("google/gemma-2-2b", 26, "att mlp res", "16k", 2304, 2048),
    "gemma-2-2b-matryoshka": Published("google/gemma-2-2b", 25, "res", "32k 32k-snap", 2304),
    "gemma-2-9b-matryoshka": Published("google/gemma-2-9b", 41, "res", "32k", 3584),
    "gemma-3-1b-matryoshka": Published("google/gemma-3-1b-pt", 25, "res", "32k", 1152),
    "llama-scope": Published("meta-llama/Llama-3.1-8B", 32, "att mlp res", "8x 32x", 4096),
    "llama-scope-r1-distill": Published(
        "deepseek-ai/DeepSeek-R1-Distill-Llama-8B", 32, "res", "plain mixed reasoning", 4096
    ),
    "qwen3-1.7b": Published("Qwen/Qwen3-1.7B-Base", 28, "res", "32k 32k-l100", 2048),
    "qwen3-8b": Published("Qwen/Qwen3-8B-Base", 36, "res", "64k 64k-l100", 4096),
    "qwen3-30b-a3b": Published("Qwen/Qwen3-30B-A3B-Base", 48, "res", "32k 128k-l100", 2048),
    "qwen3.5-2b": Published("Qwen/Qwen3.5-2B-Base", 24, "res", "32k 32k-l100", 2048),
    "qwen3.5-9b": Published("Qwen/Qwen3.5-9B-Base", 32, "res", "64k 64k-l100", 4096),
    "qwen3.5-27b": Published("Qwen/Qwen3.5-27B", 64, "res", "80k 80k-l100", 5120),
    "qwen3.5-35b-a3b": Published("Qwen/Qwen3.5-35B-A3B-Base", 40, "res", "32k 128k-l100", 2048),
} | {
    f"gemma-3-{size}{'-it' * tuned}": Published(
        f"google/gemma-3-{size}" + ("-it" if tuned else "" if size == "270m" else "-pt"),
        layers,
        "att mlp res" if tuned or size != "27b" else "res",
        "16k 16k-sparse 262k 262k-sparse",
        d_model,
        z if tuned or size != "27b" else None,
    )
    for size, layers, d_model, z in [
        ("270m", 18, 640, 1024),
        ("1b", 26, 1152, 1024),
        ("4b", 34, 2560, 2048),
        ("12b", 48, 3840, 4096),
        ("27b", 62, 5376, 4096),
    ]
    for tuned in (False, True)
}
OFF_THE_HUB = [recipe for recipe in all_recipes() if recipe.model.hf]
EVERY_WIDTH = [
    recipe.with_width(width.name) if width else recipe
    for recipe in OFF_THE_HUB
    for width in recipe.widths or [None]
]


def at_width(recipe: Recipe) -> str:
    return f"{recipe.name} {recipe.width.name if recipe.width else ''}".strip()


def test_these_are_all_the_published_suites_that_ship() -> None:
    assert {recipe.name for recipe in OFF_THE_HUB} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_has_the_layers_sites_and_widths_that_were_published(name: str) -> None:
    recipe, published = find_recipe(name), PUBLISHED[name]
    att = [source.d_in for source in recipe.sources if source.site == "att"]
    assert recipe.model_name == published.model
    assert recipe.model.d_model == published.d_model
    assert recipe.layers == published.layers
    assert " ".join(recipe.sites) == published.sites
    assert " ".join(width.name for width in recipe.widths) == published.widths
    assert att in ([], [published.d_head_outputs])
    assert len(recipe.places) == published.layers * len(recipe.sites)


@pytest.mark.thorough
@pytest.mark.parametrize("recipe", EVERY_WIDTH, ids=at_width)
def test_every_id_is_in_the_registry_and_every_model_is_the_recipes(recipe: Recipe) -> None:
    directory = get_pretrained_saes_directory()
    found = resolve(recipe)
    assert len({(one.release, one.sae_id) for one in found}) == len(found) == len(recipe.places)
    for one in found:
        assert one.sae_id in directory[one.release].saes_map
        assert normalised(directory[one.release].model) == normalised(recipe.model_name)


@pytest.mark.parametrize("recipe", EVERY_WIDTH, ids=at_width)
def test_the_layer_in_an_id_is_the_layer_of_the_recipe(recipe: Recipe) -> None:
    for one in resolve(recipe):
        if recipe.block is not None:
            assert f"blocks.{recipe.block}." in one.sae_id
        elif one.layer in dict(one.source.exceptions):
            assert block_of(one.layer, one.sae_id) == one.layer - 1
        else:
            found = re.search(r"(?:layer_?|blocks\.|\bl)(\d+)", one.sae_id)
            assert found is not None
            assert int(found[1]) == one.layer


def test_the_last_layer_of_res_jb_is_what_leaves_the_last_block() -> None:
    ids = [one.sae_id for one in resolve(find_recipe("gpt2-small-res-jb"))]
    assert ids[11:] == ["blocks.11.hook_resid_pre", "blocks.11.hook_resid_post"]


def test_every_rung_of_feature_splitting_has_its_own_width() -> None:
    recipe = find_recipe("gpt2-small-feature-splitting")
    assert [int(one.sae_id.rpartition("_")[2]) for one in resolve(recipe)] == list(recipe.ladder)
    assert [recipe.features(layer) for layer in range(recipe.layers)] == list(recipe.ladder)


def test_transcoders_are_picked_by_their_published_l0() -> None:
    ids = [one.sae_id for one in resolve(find_recipe("gemma-2-2b-transcoders")) if one.source.site == "mlp"]
    assert len(ids) == 26
    assert all(re.fullmatch(r"layer_\d+/width_16k/average_l0_\d+", one) for one in ids)


@pytest.mark.parametrize("recipe", EVERY_WIDTH, ids=at_width)
def test_every_recipe_can_be_sized(recipe: Recipe) -> None:
    needs = estimate(recipe)
    assert None not in (needs.features, needs.download, needs.graph, needs.building, needs.memory)


def test_gemma_scope_is_as_large_as_is_known() -> None:
    needs = estimate(find_recipe("gemma-2-2b"))
    assert needs.features == 26 * 3 * 16384
    # The decoders alone are 10.6 GiB in float32, and a published file holds the encoder too.
    of_saes = sum(site.download or 0 for site in needs.sites)
    assert of_saes == pytest.approx(2 * 10.6 * 2**30, rel=0.01)

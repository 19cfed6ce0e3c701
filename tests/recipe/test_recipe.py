"""Recipes: what ships parses, and what is wrong is named with file, line and key."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from featgraph.core.shipped import shipped
from featgraph.errors import RecipeError, UsageError
from featgraph.recipe import EdgePlan, Recipe, all_recipes, choose, chosen, find_recipe, read_recipe
from helpers.small_suite import END, RECIPE


def complaint(folder: Path, text: str) -> str:
    path = folder / "suite.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:")
    assert caught.value.exit_code == 2
    return message.removeprefix(f"{path}:")


def test_every_shipped_recipe_parses_and_is_found_by_its_name() -> None:
    recipes = all_recipes()
    assert "demo" in [recipe.name for recipe in recipes]
    for recipe in recipes:
        assert find_recipe(recipe.name) == recipe
        assert recipe.title


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "suite.toml"
    path.write_text(RECIPE, encoding="utf-8")
    recipe = read_recipe(path)
    assert recipe.model.path == tmp_path / "small" / "model"
    assert recipe.text is not None
    assert recipe.text.path == tmp_path / "small" / "text.txt.gz"
    assert recipe.sites == ("att", "mlp", "res")


def test_an_unknown_recipe_name_offers_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no recipe named 'dmeo'; did you mean 'demo'\?"):
        find_recipe("dmeo")


def test_a_recipe_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"cannot read recipe .*gone\.toml: no such file"):
        find_recipe(str(tmp_path / "gone.toml"))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("top_k = 3", "top_k = ", "27: not valid TOML: invalid value"),
        ("seed = 0", "seed = [", "not valid TOML"),
        ("top_k", "topk", "27: unknown key 'edges.topk'; did you mean 'top_k'?"),
        ("suite.sites.att", "suite.sites.attn", "16: unknown key 'suite.sites.attn'; did you mean 'att'?"),
        ("layers = 3", 'layers = "3"', "8: 'suite.layers' must be a whole number, not '3'"),
        ("layers = 3", "layers = true", "8: 'suite.layers' must be a whole number, not True"),
        ("tokens = 250", "tokens = 0", "22: 'text.tokens' must be at least 1, not 0"),
        ("tokens = 250\n", "", "19: missing key 'text.tokens'"),
        (
            '"mlp_res"',
            '"mpl_res"',
            "26: unknown edge kind 'mpl_res' in 'edges.kinds'; did you mean 'mlp_res'?",
        ),
        (
            'path = "small/model"',
            "",
            "4: give either 'path' (a folder) or 'hf' (a Hugging Face id) in [model]",
        ),
        (
            'path = "small/saes/{layer}.res"',
            'release = "r"',
            "10: give either 'path' or both 'release' and 'id'",
        ),
        ("[suite.sites.res]", "[suite.sites.mlp.x]", "missing key 'suite.sites.res'"),
        ('title = "a small random suite"', "", "1: missing key 'title'"),
        ("twera_k = 3", "twera_k = -1", "28: 'edges.twera_k' must be at least 0, not -1"),
        ("min_support = 3", "min_support = 0", "29: 'edges.min_support' must be at least 1, not 0"),
        ('path = "small/text.txt.gz"', "", "19: give either 'path' or 'dataset' in [text]"),
        (f'separator = "{END}"', "", "19: missing key 'text.separator' (plain text) or 'text.column'"),
        (
            'path = "small/text.txt.gz"',
            'dataset = "me/stories"\ncolumn = "text"',
            "19: missing key 'text.split'; a dataset needs 'split'",
        ),
        ("/{layer}.res", "/{layr}.res", "'small/saes/{layr}.res' names {layr}; did you mean 'layer'?"),
        ("/{layer}.res", "/{layer}.{l0}", "names {l0}; here it may name {layer}"),
        (
            '{layer}.att"',
            '{layer}.att"\nlayers = [0, 3]',
            "'suite.sites.att.layers' holds 3, which is not be",
        ),
        ('{layer}.att"', '{layer}.att"\nlayers = []', "'suite.sites.att.layers' names no layer"),
        (
            '{layer}.att"',
            '{layer}.att"\nexcept = {7 = "x"}',
            "'7' in [suite.sites.att.except] is no layer of",
        ),
        ('{layer}.att"', '{layer}.att"\nwidths = ["8x"]', "no width '8x' in [suite.widths]"),
        ('{layer}.att"', '{layer}.att"\nl0 = 0', "'suite.sites.att.l0' must be at least 1, not 0"),
        ('"small/saes/{layer}.res"', '"x"\nkey = "W_dec"', "or 'decoders' and its 'key'"),
        (
            'path = "small/saes/{layer}.res"',
            'decoders = "x"\nkey = "W_dec"',
            "take [text] out of this recipe",
        ),
        ("layers = 3", 'layers = 3\nwidth = "4k"', "'suite.width' and [suite.widths] go together"),
        ("layers = 3", 'layers = 3\nwidth = "4k"\nwidths = {8k = 8}', "9: no width '4k' in [suite.widths]"),
        (
            "layers = 3",
            'layers = 3\nwidth = "4k"\nwidths = {4k = {id = "x"}}',
            "missing key 'suite.widths.4k.feat",
        ),
        ("layers = 3", "layers = 3\nladder = [4, 8]\nblock = 1", "the features of 2 layers, but there are 3"),
        ("layers = 3", "layers = 3\nladder = [4, 8, 9]", "'suite.ladder' and 'suite.block' go together"),
        (
            "layers = 3",
            'layers = 3\ndtype = "int8"',
            "'suite.dtype' must be one of float32, bfloat16, float16",
        ),
    ],
)
def test_a_mistake_is_named_with_line_and_key(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in RECIPE
    assert expected in complaint(tmp_path, RECIPE.replace(old, new, 1))


# ---- what a recipe says of each SAE


def small(folder: Path, *changes: tuple[str, str]) -> Recipe:
    text = RECIPE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / "suite.toml"
    path.write_text(text, encoding="utf-8")
    return read_recipe(path)


def names(recipe: Recipe, site: str = "res") -> list[str]:
    return [recipe.sae_name(source, layer) for layer, source in recipe.places if source.site == site]


def test_places_are_by_layer_then_by_site(tmp_path: Path) -> None:
    recipe = small(tmp_path, ('{layer}.att"', '{layer}.att"\nlayers = [0, 2]'))
    assert [(layer, source.site) for layer, source in recipe.places] == [
        *[(0, "att"), (0, "mlp"), (0, "res")],
        *[(1, "mlp"), (1, "res")],
        *[(2, "att"), (2, "mlp"), (2, "res")],
    ]


def test_an_exception_replaces_the_pattern_of_its_layer(tmp_path: Path) -> None:
    recipe = small(tmp_path, ('{layer}.res"', '{layer}.res"\nexcept = {2 = "last/{layer}"}'))
    assert names(recipe) == ["small/saes/0.res", "small/saes/1.res", "last/2"]


WIDTHS = (
    'layers = 3\nwidth = "4k"\n[suite.widths]\n4k = 4_096\n'
    '8k = { features = 8_192, set = "b" }\n8k-sparse = { features = 8_192, set = "c" }'
)


def test_a_width_fills_its_words_into_the_patterns(tmp_path: Path) -> None:
    with_set = ('"small/saes/{layer}.res"', '"saes/{width}.{layer}"')
    recipe = small(tmp_path, ("layers = 3", WIDTHS), with_set)
    assert names(recipe)[0] == "saes/4k.0"
    assert recipe.features(1) == 4096
    wide = recipe.with_width("8k-sparse")
    assert names(wide)[2] == "saes/8k-sparse.2"
    assert wide.features(1) == 8192


def test_a_word_that_not_every_width_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"'saes/\{set\}' names \{set\}"):
        small(tmp_path, ("layers = 3", WIDTHS), ('"small/saes/{layer}.res"', '"saes/{set}"'))


def test_a_site_can_be_limited_to_widths(tmp_path: Path) -> None:
    site = ('"small/saes/{layer}.att"', '"saes/{set}.{layer}"\nwidths = ["8k", "8k-sparse"]')
    recipe = small(tmp_path, ("layers = 3", WIDTHS), site)
    assert recipe.sites == ("mlp", "res")
    assert recipe.with_width("8k").sites == ("att", "mlp", "res")
    assert names(recipe.with_width("8k-sparse"), "att")[1] == "saes/c.1"


def test_a_width_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    recipe = small(tmp_path, ("layers = 3", WIDTHS))
    with pytest.raises(UsageError, match=r"no width '8k-sprse'; did you mean '8k-sparse'\? it comes in 4k"):
        recipe.with_width("8k-sprse")
    with pytest.raises(UsageError, match="recipe suite has no width '4k'; it comes in one width only"):
        small(tmp_path).with_width("4k")


def test_the_layers_of_a_ladder_are_widths_at_one_block(tmp_path: Path) -> None:
    ladder = ("layers = 3", "layers = 3\nladder = [4, 8, 16]\nblock = 7")
    recipe = small(tmp_path, ladder, ('"small/saes/{layer}.res"', '"saes/{block}_{width}"'))
    assert names(recipe) == ["saes/7_4", "saes/7_8", "saes/7_16"]
    assert [recipe.features(layer) for layer in range(3)] == [4, 8, 16]
    assert recipe.block == 7


def test_a_recipe_without_text_is_data_free(tmp_path: Path) -> None:
    text = RECIPE[RECIPE.index("[text]") : RECIPE.index("[edges]")]
    recipe = small(tmp_path, (text, ""))
    assert recipe.text is None
    assert small(tmp_path).data_free().text is None
    with pytest.raises(UsageError, match=r"recipe suite is data-free, so --tokens has no effect"):
        recipe.with_tokens(5)


def test_another_text_keeps_what_its_place_does_not_say(tmp_path: Path) -> None:
    recipe = small(tmp_path)
    (tmp_path / "mine").mkdir()
    text = recipe.with_text(str(tmp_path / "mine")).with_tokens(9).text
    assert text is not None
    assert (text.path, text.separator, text.tokens, text.context) == (tmp_path / "mine", END, 9, 12)


def test_a_text_that_is_no_path_is_a_dataset(tmp_path: Path) -> None:
    text = small(tmp_path).with_text("me/stories").text
    assert text is not None
    assert (text.path, text.dataset, text.split, text.column) == (None, "me/stories", "train", "text")


@pytest.mark.parametrize(
    "place", ["stories.txt", "me/stories.jsonl", "/no/such/folder", "a b", "./here", ".hidden/x"]
)
def test_a_text_that_is_neither_path_nor_dataset_is_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(UsageError, match=f"no text at '{place}'"):
        small(tmp_path).with_text(place)


def test_what_was_chosen_can_be_chosen_again(tmp_path: Path) -> None:
    recipe = small(tmp_path, ("layers = 3", WIDTHS))
    assert chosen(recipe) == {}
    (tmp_path / "mine.txt").touch()
    for made in (
        recipe,
        recipe.with_width("8k"),
        recipe.with_tokens(7),
        recipe.with_text(str(tmp_path / "mine.txt")).with_width("8k"),
        recipe.with_text("me/stories"),
        recipe.data_free(),
    ):
        assert choose(recipe, json.loads(json.dumps(chosen(made)))) == made


def test_the_edges_table_may_be_left_out_in_part_or_whole(tmp_path: Path) -> None:
    text = RECIPE[: RECIPE.index("[edges]")]
    file = tmp_path / "new.toml"
    file.write_text(text, encoding="utf-8")
    assert read_recipe(file).edges == EdgePlan()
    file.write_text(f"{text}[edges]\ntwera_k = 0\n", encoding="utf-8")
    assert read_recipe(file).edges == EdgePlan(twera_k=0)


def test_the_readme_of_recipes_has_the_defaults_of_the_edges_table() -> None:
    lines = shipped("ingest").joinpath("README.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip(" `") for cell in line.split("|")[1:3]] for line in lines if line.startswith("| `")]
    shown = dict(rows)
    for field in fields(EdgePlan):
        default = field.default
        expected = ", ".join(default) if isinstance(default, tuple) else str(default)
        assert shown[field.name] == expected

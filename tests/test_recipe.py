"""Recipes: what ships parses, and what is wrong is named with file, line and key."""

from pathlib import Path

import pytest

from featgraph.errors import RecipeError, UsageError
from featgraph.recipe import all_recipes, find_recipe, read_recipe
from small_suite import RECIPE


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
    assert recipe.text.path == tmp_path / "small" / "text.txt.gz"
    assert recipe.sites == ("att", "mlp", "res")


def test_an_unknown_recipe_name_offers_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no recipe named 'dmeo'; did you mean 'demo'\?"):
        find_recipe("dmeo")


def test_a_recipe_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"cannot read recipe .*gone\.toml: No such file"):
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
    ],
)
def test_a_mistake_is_named_with_line_and_key(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in RECIPE
    assert expected in complaint(tmp_path, RECIPE.replace(old, new, 1))

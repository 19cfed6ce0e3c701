"""One `ingest/*.toml` -> `Recipe`: which model, which SAEs, which text, which edges.

sources   what a recipe says: a model, SAEs, a text, the edges wanted
reading   a file's keys -> those values
check     a table's keys and kinds; every complaint names the file, the line and the key
"""

from featgraph.recipe.reader import all_recipes, choose, chosen, find_recipe, read_recipe
from featgraph.recipe.recipe import EdgePlan, ModelSource, Recipe, SaeSource, TextSource, Width

__all__ = [
    "EdgePlan",
    "ModelSource",
    "Recipe",
    "SaeSource",
    "TextSource",
    "Width",
    "all_recipes",
    "choose",
    "chosen",
    "find_recipe",
    "read_recipe",
]

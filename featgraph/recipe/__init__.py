"""One `ingest/*.toml` -> `Recipe`: a model, its SAEs, a text, and the searches for edges.

recipe      the values of a recipe; `EdgePlan` has the defaults of `[edges]`
reader      the keys of a file -> these values
toml_file   checks of one TOML table; every error names the file, the line and the key
"""

from featgraph.recipe.reader import all_recipes, choose, chosen, find_recipe, read_recipe
from featgraph.recipe.recipe import (
    CODECS,
    TEXT_ENDINGS,
    EdgePlan,
    ModelSource,
    Recipe,
    SaeSource,
    TextSource,
    Width,
)

__all__ = [
    "CODECS",
    "TEXT_ENDINGS",
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

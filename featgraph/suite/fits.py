"""Whether a text fits its model: as long as its positions, and with tokens that it has an embedding of."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from featgraph.errors import SourceError
from featgraph.recipe import Recipe

if TYPE_CHECKING:
    from featgraph.suite.language_model import LanguageModel

_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx")
"""Keys of a configuration for the number of positions; some models have no limit."""


def check_context(recipe: Recipe, config: Mapping[str, Any]) -> None:
    """Check the context of a recipe against a model's configuration, as its config.json has it.

    Raises SourceError: the model has fewer positions, beyond which it reads noise or fails.
    """
    text = config.get("text_config") or config
    positions = next((text[name] for name in _POSITIONS if isinstance(text.get(name), int)), None)
    if recipe.text is not None and positions is not None and recipe.text.context > positions:
        raise SourceError(
            f"{recipe.file}: a context of {recipe.text.context} tokens is longer than the {positions} "
            f"positions of {recipe.model_name}; take context = {positions} or less in [text]"
        )


def check_folder_context(recipe: Recipe) -> None:
    """Check the context for a model in a folder, without loading it.

    Raises SourceError: as `check_context`.
    """
    path = None if recipe.model.path is None else recipe.model.path / "config.json"
    if path is not None and path.is_file():
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return  # Loading the model will raise the error.
        if isinstance(config, dict):
            check_context(recipe, config)


def check_ids(largest: int, model: "LanguageModel") -> None:
    """Check that a model has an embedding for every token of a text; largest: the largest token id.

    Raises SourceError: the tokenizer is another model's, or has added tokens without embeddings.
    """
    embeddings = int(model.model.get_input_embeddings().weight.shape[0])
    if largest >= embeddings:
        raise SourceError(
            f"the tokenizer of {model.name} gives token {largest} "
            f"({model.tokenizer.decode([largest])!r}), but the model has {embeddings} embeddings; "
            "give it its own tokenizer, or resize its embeddings"
        )

"""Module paths of a transformers model's blocks, for the file formats that name them."""

_PATHS = {
    "transformer.h": ("gpt2", "gpt_neo", "gptj", "codegen", "gpt_bigcode", "bloom", "falcon"),
    "gpt_neox.layers": ("gpt_neox",),
    "model.language_model.layers": ("gemma3",),
}
"""Model type -> path of the list of blocks; `model.layers` in all other families.

Source: the models of transformers 5."""


def module_path(model_type: str) -> str:
    """Return the path of the module list that holds the blocks of a transformers model."""
    for path, types in _PATHS.items():
        if model_type in types:
            return path
    return "model.layers"


def below_base_model(model_type: str) -> str:
    """Return the path of the list of blocks below `model.base_model`.

    >>> below_base_model("llama"), below_base_model("gpt2"), below_base_model("gemma3")
    ('layers', 'h', 'language_model.layers')
    """
    return module_path(model_type).partition(".")[2]

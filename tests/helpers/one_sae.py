"""One random SAE of any sae_lens architecture in a folder, and the recipe that puts it at a site."""

from pathlib import Path
from typing import Any

import torch
from sae_lens.registry import get_sae_class
from sae_lens.saes.sae import SAEMetadata

from featgraph.core.keys import Site
from featgraph.recipe import EdgePlan, ModelSource, Recipe, SaeSource
from featgraph.suite import LanguageModel, LoadedSae, load_sae

N_FEATURES = 6


def save_sae(
    folder: Path, hook_name: str | None, d_in: int, *, kind: str = "standard", **options: Any
) -> Path:
    """Write an SAE with all parameters random; options are fields of its configuration or of its metadata."""
    sae_class, config_class = get_sae_class(kind)
    fields = {name: value for name, value in options.items() if name in config_class.__dataclass_fields__}
    metadata = {name: value for name, value in options.items() if name not in fields}
    if "transcoder" in kind:
        fields = {"apply_b_dec_to_input": False, "d_out": d_in, **fields}
    config = config_class(d_in=d_in, d_sae=N_FEATURES, **fields)
    sae = sae_class(config)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.normal_()
    # Given after it is made: sae_lens warns of some metadata as soon as it sees it.
    sae.cfg.metadata = SAEMetadata(hook_name=hook_name, sae_lens_version="6.0.0", **metadata)
    folder.mkdir(parents=True, exist_ok=True)
    sae.save_model(folder)
    return folder


def recipe_of(
    folder: Path, site: Site, *, layer: int = 1, model: Path | None = None, **options: Any
) -> Recipe:
    """Return a recipe of one SAE; options are fields of its source."""
    given = {"path": folder.name, "layers": (layer,), **options}
    source = SaeSource(site, **given)
    return Recipe(
        name="one",
        title="one SAE",
        file=folder.parent / "one.toml",
        model=ModelSource(model, None if model else "random"),
        layers=layer + 1,
        declared=(source,),
        text=None,
        edges=EdgePlan(("res_res",), top_k=1, twera_k=0, min_support=1),
        seed=0,
    )


def load_one(recipe: Recipe, model: Any) -> LoadedSae:
    """Load the SAE of a recipe of one; model: of transformers, a LanguageModel, or None."""
    [(layer, source)] = recipe.places
    known = model is None or isinstance(model, LanguageModel)
    return load_sae(recipe, source, layer, model if known else LanguageModel(model, None, "random"))

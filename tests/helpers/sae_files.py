"""Small SAEs in the layouts of several projects, written as those write them, and a recipe for them."""

import json
from pathlib import Path
from typing import Any

import torch
from sae_lens import JumpReLUSAE, JumpReLUSAEConfig
from sae_lens.saes.sae import SAEMetadata
from safetensors.torch import save_file

from featgraph.recipe import Recipe, read_recipe
from featgraph.suite.sae_files import SaeFile, read_sae
from helpers.small_suite import RECIPE

D_IN, D_SAE, K = 8, 20, 3
HEAD, _, REST = RECIPE.partition("[suite.sites.res]")
TEXT, EDGES = (
    "[text]" + REST.partition("[text]")[2].partition("[edges]")[0],
    "[edges]" + REST.partition("[edges]")[2],
)


def recipe_of(folder: Path, source: str, *, text: bool = True) -> Recipe:
    """A recipe in `folder` whose only site is `res`, with what `source` says of it."""
    path = folder / "suite.toml"
    body = f"{HEAD}[suite.sites.res]\n{source}\n\n{TEXT if text else ''}{EDGES}"
    path.write_text(body, encoding="utf-8")
    return read_recipe(path)


def read(recipe: Recipe, layer: int = 1) -> SaeFile:
    return read_sae(recipe, recipe.sources[0], layer)


def encoded(found: SaeFile, x: torch.Tensor) -> torch.Tensor:
    assert found.sae is not None
    with torch.no_grad():
        codes: torch.Tensor = found.sae.encode(x)
    return codes


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    made = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=made)

    return {"enc": draw(D_SAE, D_IN), "dec": draw(D_SAE, D_IN), "b_enc": draw(D_SAE), "b_dec": draw(D_IN)}


INPUT = torch.randn(30, D_IN, generator=torch.Generator().manual_seed(7))


def top(values: torch.Tensor) -> torch.Tensor:
    """Only the K largest of each row, and of those the positive."""
    kept = values.topk(K, dim=1)
    return torch.zeros_like(values).scatter(1, kept.indices, kept.values.relu())


def save_sparsify(folder: Path, **config: object) -> dict[str, torch.Tensor]:
    w = weights()
    folder.mkdir(parents=True)
    state = {"encoder.weight": w["enc"], "encoder.bias": w["b_enc"], "W_dec": w["dec"], "b_dec": w["b_dec"]}
    save_file(state, folder / "sae.safetensors")
    said = {
        "d_in": D_IN,
        "num_latents": D_SAE,
        "k": K,
        "normalize_decoder": True,
        "activation": "topk",
        **config,
    }
    (folder / "cfg.json").write_text(json.dumps(said))
    return w


def save_dictionary(folder: Path, kind: str, state: dict[str, Any], **trainer: object) -> None:
    folder.mkdir(parents=True)
    torch.save(state, folder / "ae.pt")
    said = {
        "dict_class": kind,
        "activation_dim": D_IN,
        "dict_size": D_SAE,
        "layer": 1,
        "lm_name": "org/small",
    }
    config = {"trainer": {**said, **trainer}, "buffer": {"ctx_len": 128}}
    (folder / "config.json").write_text(json.dumps(config))


def linear(w: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The weights as dictionary_learning's classes of two linear layers name them."""
    return {"encoder.weight": w["enc"], "encoder.bias": w["b_enc"], "decoder.weight": w["dec"].T.contiguous()}


def auto_encoder(w: dict[str, torch.Tensor]) -> tuple[str, dict[str, Any], torch.Tensor]:
    pre = (INPUT - w["b_dec"]) @ w["enc"].T + w["b_enc"]
    return "AutoEncoder", {**linear(w), "bias": w["b_dec"]}, pre.relu()


def save_jump(folder: Path, dtype: str = "float32", **metadata: object) -> dict[str, torch.Tensor]:
    w = weights()
    named = SAEMetadata(**{"hook_name": "blocks.1.hook_resid_post", "sae_lens_version": "6.0.0", **metadata})
    config = JumpReLUSAEConfig(
        d_in=D_IN, d_sae=D_SAE, apply_b_dec_to_input=False, dtype=dtype, metadata=named
    )
    sae = JumpReLUSAE(config)
    state = {"W_enc": w["enc"].T, "W_dec": w["dec"], "b_enc": w["b_enc"], "b_dec": w["b_dec"]}
    sae.load_state_dict({**state, "threshold": torch.full((D_SAE,), 0.5)})
    folder.mkdir(parents=True)
    sae.save_model(folder)
    return w


def save_decoders(folder: Path, *, tensor: torch.Tensor | None = None, rows: int = D_SAE) -> Recipe:
    """Decoders alone, for each layer a file, and the recipe for them."""
    decoders = weights()["dec"][:rows] if tensor is None else tensor
    for layer in range(3):
        save_file({"W_dec": decoders, "other": torch.zeros(2)}, folder / f"{layer}.safetensors")
    return recipe_of(folder, 'decoders = "{layer}.safetensors"\nkey = "W_dec"', text=False)

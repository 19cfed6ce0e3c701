"""sae_lens's loaders for each layout, adapted where they want the hub or differ from the project they read.

A converter takes (folder, device, cfg_overrides), returns (config, state), as `SAE.load_from_disk` wants it.
"""

from collections.abc import Callable
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

from featgraph.errors import SourceError
from featgraph.suite.layouts import read_config, tensor_shapes
from featgraph.suite.sae_configs import bare_layer, sparsify_width

Converter = Callable[[Path, str, dict[str, Any]], tuple[dict[str, Any], dict[str, Any]]]


def converter(layout: str) -> Converter:
    """Return the converter of a layout."""
    from sae_lens.loading.pretrained_sae_loaders import sae_lens_disk_loader

    known: dict[str, Converter] = {
        "sae_lens": sae_lens_disk_loader,
        "sparsify": _sparsify,
        "dictionary_learning": _dictionary_learning,
    }
    return known[layout]


def _sparsify(
    folder: Path, device: str, cfg_overrides: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a sparsify folder: W_dec has a row per feature, and b_dec is always subtracted from the input.

    sae_lens 6.54 transposes W_dec, subtracts b_dec only without `normalize_decoder`, reads a `num_latents` of
    0 as the width, and accepts only folders named `layers.N`.

    Source: EleutherAI/sparsify, sparse_coder.py, `SparseCoder.__init__` and `encode`.
    """
    from sae_lens.loading import pretrained_sae_loaders as loaders

    declared = read_config(folder / "cfg.json")
    shape = {"d_sae": sparsify_width(declared), "apply_b_dec_to_input": True}

    def config_of(path: str | Path, device: str | None, overrides: dict[str, Any] | None) -> dict[str, Any]:
        # sae_lens derives the layer from the folder's name; with a hook in the recipe, the name is free.
        block = bare_layer(folder.name)
        return {
            "architecture": "standard",
            "d_in": declared["d_in"],
            "dtype": "float32",
            "device": device or "cpu",
            "model_name": folder.parent.name,
            "hook_name": folder.name if block is None else f"blocks.{block}.hook_resid_post",
            "activation_fn_str": "topk",
            "activation_fn_kwargs": {"k": declared["k"]},
            "normalize_activations": "none",
            "finetuning_scaling_factor": False,
            "reshape_activations": "none",
            **(overrides or {}),
        }

    names = {**vars(loaders), "get_sparsify_config_from_disk": config_of}
    original = loaders.sparsify_disk_loader
    loader = FunctionType(original.__code__, names, original.__name__, original.__defaults__)
    config, state = loader(folder, device, {**cfg_overrides, **shape})
    stored = tensor_shapes(folder / "sae.safetensors").get("W_dec")
    if stored == (config["d_sae"], config["d_in"]):
        state["W_dec"] = state["W_dec"].T.contiguous()
    return config, state


def _dictionary_learning(
    folder: Path, device: str, cfg_overrides: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a dictionary_learning folder with sae_lens's loader, which only fetches files from the Hub.

    A copy of the loader runs with its fetch function replaced by one that returns local paths; sae_lens
    itself is unchanged.
    """
    import torch
    from sae_lens.loading import pretrained_sae_loaders as loaders

    def on_disk(repo_id: str, filename: str, force_download: bool = False) -> str:
        return str(Path(repo_id) / filename)

    declared = read_config(folder / "config.json")
    # The loader reads the buffer's context length; dictionaries trained from an iterator have no buffer.
    whole = {
        **declared,
        "trainer": {"layer": None, "lm_name": "", **declared["trainer"]},
        "buffer": {"ctx_len": None, **(declared.get("buffer") or {})},
    }
    names = {**vars(loaders), "hf_hub_download": on_disk, "json": SimpleNamespace(load=lambda _file: whole)}
    for function in (
        "get_dictionary_learning_config_1_from_hf",
        "dictionary_learning_sae_huggingface_loader_1",
    ):
        original = vars(loaders)[function]
        names[function] = FunctionType(original.__code__, names, function, original.__defaults__)
    config, state, _ = names["dictionary_learning_sae_huggingface_loader_1"](
        repo_id=str(folder.parent),
        folder_name=folder.name,
        device=device,
        force_download=False,
        cfg_overrides=cfg_overrides,
    )
    if declared["trainer"]["dict_class"] == "AutoEncoderNew":
        # The decoder has the bias, and nothing is subtracted from the input.
        config["apply_b_dec_to_input"] = False
        state["b_dec"] = torch.load(folder / "ae.pt", map_location="cpu", weights_only=True)["decoder.bias"]
    for name, tensor in state.items():
        if tensor is not None and not tensor.is_floating_point():
            raise SourceError(
                f"{folder / 'ae.pt'}: {name} holds {tensor.dtype} values; weights must be floats"
            )
    present = {name: tensor.contiguous() for name, tensor in state.items() if tensor is not None}
    return config, present

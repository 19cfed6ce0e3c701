"""sae_lens's loaders for each layout, adapted where they want the hub or differ from the project they read.

A converter takes (folder, device, cfg_overrides), returns (config, state), as `SAE.load_from_disk` wants it.
"""

import re
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

from featgraph.errors import SourceError
from featgraph.suite.layouts import read_config, tensor_shapes

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
    """Read a sparsify folder, in which W_dec has a row per feature and b_dec is always taken off the input.

    sae_lens 6.54 transposes that W_dec, and takes b_dec off only without `normalize_decoder`.

    Source: EleutherAI/sparsify, sparse_coder.py, `SparseCoder.__init__` and `encode`.
    """
    from sae_lens.loading.pretrained_sae_loaders import sparsify_disk_loader

    config = read_config(folder / "cfg.json")
    refused = {
        "transcode": (False,),
        "skip_connection": (False,),
        "signed": (False,),
        "activation": ("topk",),
    }
    for key, fine in refused.items():
        if config.get(key, fine[0]) not in fine:
            raise SourceError(
                f"{folder / 'cfg.json'} says {key} = {config[key]!r}; sae_lens has no such SAE in this layout"
            )
    overrides = {**cfg_overrides, "apply_b_dec_to_input": True}
    found, state = sparsify_disk_loader(folder, device, overrides)
    stored = tensor_shapes(folder / "sae.safetensors").get("W_dec")
    if stored == (found["d_sae"], found["d_in"]):
        state["W_dec"] = state["W_dec"].T.contiguous()
    return found, state


def sparsify_hook_unclear(folder: Path) -> bool:
    """Return whether a sparsify folder is not a bare `layers.3`, which alone sae_lens places rightly."""
    return re.fullmatch(r"layers[._]\d+", folder.name) is None


def _dictionary_learning(
    folder: Path, device: str, cfg_overrides: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a dictionary_learning folder with sae_lens's loader, which takes its files from the hub only.

    The loader runs as it is, but what it calls to fetch a file finds it here; sae_lens itself is unchanged.
    """
    from sae_lens.loading import pretrained_sae_loaders as theirs

    def on_disk(repo_id: str, filename: str, force_download: bool = False) -> str:
        return str(Path(repo_id) / filename)

    names = {**vars(theirs), "hf_hub_download": on_disk}
    for function in (
        "get_dictionary_learning_config_1_from_hf",
        "dictionary_learning_sae_huggingface_loader_1",
    ):
        original = vars(theirs)[function]
        names[function] = FunctionType(original.__code__, names, function, original.__defaults__)
    config, state, _ = names["dictionary_learning_sae_huggingface_loader_1"](
        repo_id=str(folder.parent),
        folder_name=folder.name,
        device=device,
        force_download=False,
        cfg_overrides=cfg_overrides,
    )
    for name, tensor in state.items():
        if tensor is not None and not tensor.is_floating_point():
            raise SourceError(
                f"{folder / 'ae.pt'}: {name} holds {tensor.dtype} values; weights must be floats"
            )
    present = {name: tensor.contiguous() for name, tensor in state.items() if tensor is not None}
    return config, present

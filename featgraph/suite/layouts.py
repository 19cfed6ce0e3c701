"""Recognises the file layout of an SAE's folder, and reads its shape without the weights.

Loads neither torch nor sae_lens, so that a suite can be sized before anything else is.
"""

from pathlib import Path
from typing import Any, NamedTuple

from featgraph.core.bounded import json_value, read_text
from featgraph.core.files import os_reason
from featgraph.errors import SourceError

FLOATS = ("F64", "F32", "F16", "BF16")
"""Dtypes of weights in a safetensors file; all are converted to float32."""


class Layout(NamedTuple):
    """The file layout in which a project stores an SAE."""

    name: str
    config: str
    weights: str


LAYOUTS = (
    Layout("sae_lens", "cfg.json", "sae_weights.safetensors"),
    Layout("sparsify", "cfg.json", "sae.safetensors"),
    Layout("dictionary_learning", "config.json", "ae.pt"),
)
"""All layouts, recognised by the name of the weights file."""


def layout_of(folder: Path, asked_by: str) -> Layout:
    """Return the layout of an SAE's folder.

    asked_by: the recipe, for the error.

    Raises SourceError: no SAE, or only part of its files.
    """
    for layout in LAYOUTS:
        has_weights, has_config = (folder / layout.weights).is_file(), (folder / layout.config).is_file()
        if has_weights and has_config:
            return layout
        if has_weights:
            raise SourceError(f"{asked_by}: the SAE at {folder} has {layout.weights}, but no {layout.config}")
    wanted = ", ".join(f"{layout.weights} ({layout.name})" for layout in LAYOUTS)
    what = "has none of" if folder.is_dir() else "is not a folder; an SAE's folder has one of"
    raise SourceError(f"{asked_by}: no SAE at {folder}: it {what} {wanted}")


def read_config(path: Path) -> dict[str, Any]:
    """Return a JSON object from a file.

    Raises SourceError: missing, unreadable, or not a JSON object.
    """
    try:
        value = json_value(read_text(path))
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot read {path}: {os_reason(error)}") from error
    if not isinstance(value, dict):
        raise SourceError(f"cannot read {path}: it holds no JSON object")
    return value


def declared_shape(folder: Path, layout: Layout) -> tuple[int, int]:
    """Return (n_features, d_in) as an SAE's config declares them.

    Raises SourceError: the config has no valid width.
    """
    config = read_config(folder / layout.config)
    try:
        if layout.name == "dictionary_learning":
            return int(config["trainer"]["dict_size"]), int(config["trainer"]["activation_dim"])
        d_in = int(config["d_in"])
        if layout.name == "sae_lens":
            return int(config["d_sae"]), d_in
        return int(config.get("num_latents") or d_in * int(config["expansion_factor"])), d_in
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise SourceError(f"{folder / layout.config} does not give the width of the SAE: {error}") from error


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor in a safetensors file, reading only its header.

    Raises SourceError: missing, damaged or truncated, or a tensor is not of floats.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
            dtypes = {name: part.get_dtype() for name, part in slices.items()}
            shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise SourceError(f"cannot load {path}: {str(error).splitlines()[0]}") from error
    for name, dtype in dtypes.items():
        if dtype not in FLOATS:
            raise SourceError(
                f"{path}: {name} holds {dtype} values; weights must be floats: {', '.join(FLOATS)}"
            )
    return shapes

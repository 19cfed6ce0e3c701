"""CAA: a folder with one bare tensor per layer, as Contrastive Activation Addition's scripts keep them."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from featgraph.export.files import OutputFiles, own_folder
from featgraph.export.formats import FORMATS

if TYPE_CHECKING:
    from featgraph.steering import SteeringVector


def caa(vector: "SteeringVector", out: Path, approximations: tuple[str, ...]) -> OutputFiles:
    """Return `vec_layer_{N}_{model}.pt`, a 1-D float32 tensor, for the output of each block N.

    Source: nrimsky/CAA, behaviors.py get_vector_path and utils/helpers.py make_tensor_save_suffix.
    """
    export_format = FORMATS["caa"]
    model = vector.model.name.rstrip("/").split("/")[-1]
    names = {
        f"vec_layer_{export_format.layer(block, vector.model.type)}_{model}.pt": values
        for block, values in vector.layers.items()
    }
    folder = own_folder(out, set(names), ".pt")
    return OutputFiles(
        {folder / name: saved(tensor(values)) for name, values in names.items()}, folder=folder
    )


def tensor(values: object) -> object:
    """Return values as a torch tensor with its own storage, so that only they are saved."""
    import torch

    return torch.tensor(values)


def saved(content: object) -> bytes:
    """Return the bytes that `torch.save` writes for tensors, dictionaries and plain values."""
    import torch

    stream = BytesIO()
    torch.save(content, stream)
    return stream.getvalue()

"""Steering vectors as files, one module per format; a file appears whole or not at all."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from featgraph.errors import UsageError, nearest
from featgraph.files import complete_file

if TYPE_CHECKING:
    from featgraph.steering import SteeringVector

FORMATS: dict[str, str] = {
    "gguf": "control vector for llama.cpp (--control-vector), repeng and EasySteer",
    "safetensors": "tensors layer.N with the provenance as metadata, for Python",
    "json": "the same content as text, for reading",
}
"""Name of each format and what it is for."""

_MODULES = {name: f"featgraph.formats.{name}_file" for name in FORMATS}


def write(vector: "SteeringVector", path: str | Path, format: str) -> None:
    """Write a steering vector to `path` in one of `FORMATS`; a file that is there is replaced.

    Raises UsageError: no such format, the format cannot hold this vector, its values are not finite, or the
    file cannot be written.
    """
    if format not in FORMATS:
        raise UsageError(
            f"no export format {format!r}{nearest(format, FORMATS) or ';'} formats are {', '.join(FORMATS)}"
        )
    _check_finite(vector)
    save: Callable[[SteeringVector, Path], None] = import_module(_MODULES[format]).save
    with complete_file(Path(path)) as partial:
        save(vector, partial)


def _check_finite(vector: "SteeringVector") -> None:
    import numpy as np

    for layer, values in vector.layers.items():
        if not np.isfinite(values).all():
            raise UsageError(
                f"the vector of layer {layer} has NaN or infinite values at scale "
                f"{vector.settings.scale:g}; choose a finite, smaller one"
            )

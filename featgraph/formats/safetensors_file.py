"""Safetensors: one tensor `layer.N` per block, provenance as JSON in the header's string metadata."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from featgraph.formats.provenance import describe

if TYPE_CHECKING:
    from featgraph.steering import SteeringVector


def save(vector: "SteeringVector", path: Path) -> None:
    """Write `layer.N`, F32 (d_model,), the vector added at coefficient 1 to the output of block N.

    Metadata values are text: text stays as it is, everything else is JSON.
    """
    from safetensors import numpy as safetensors

    tensors = {f"layer.{layer}": values for layer, values in vector.layers.items()}
    described = describe(vector).items()
    metadata = {name: value if isinstance(value, str) else json.dumps(value) for name, value in described}
    path.write_bytes(safetensors.save(tensors, metadata))

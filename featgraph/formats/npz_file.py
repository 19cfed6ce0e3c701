"""NumPy: the arrays of the safetensors file, and its metadata as one JSON text under `metadata`."""

import json
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from featgraph.formats.parcel import Parcel
from featgraph.formats.provenance import describe
from featgraph.formats.safetensors_file import named

if TYPE_CHECKING:
    from featgraph.steering import SteeringVector


def numpy(vector: "SteeringVector", out: Path, near: tuple[str, ...]) -> Parcel:
    """Return the vectors as `layer.N` and `middle.N`, float32 (d_model,); loads without pickle."""
    import numpy as np

    stream = BytesIO()
    metadata = np.array(json.dumps(describe(vector, near), ensure_ascii=False))
    np.savez(stream, allow_pickle=False, metadata=metadata, **named(vector, "npz"))
    return Parcel({out: stream.getvalue()})

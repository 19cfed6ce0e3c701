"""NumPy: the arrays of the safetensors file, and its metadata as one JSON text under `metadata`."""

import json
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from featgraph.export.files import OutputFiles
from featgraph.export.provenance import describe
from featgraph.export.safetensors_file import named

if TYPE_CHECKING:
    from featgraph.steering import SteeringVector


def numpy(vector: "SteeringVector", out: Path, approximations: tuple[str, ...]) -> OutputFiles:
    """Return the vectors as `layer.N` and `middle.N`, float32 (d_model,); loads without pickle."""
    import numpy as np

    stream = BytesIO()
    metadata = np.array(json.dumps(describe(vector, approximations), ensure_ascii=False))
    np.savez(stream, allow_pickle=False, metadata=metadata, **named(vector, "npz"))
    return OutputFiles({out: stream.getvalue()})

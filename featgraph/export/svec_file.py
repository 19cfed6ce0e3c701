"""`.svec` of IBM's activation-steering: JSON, keyed by the block before which a vector is added."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from featgraph.export.files import OutputFiles, beside, stem
from featgraph.export.formats import FORMATS
from featgraph.export.provenance import describe

if TYPE_CHECKING:
    from featgraph.steering import SteeringVector


def activation_steering(vector: "SteeringVector", out: Path, approximations: tuple[str, ...]) -> OutputFiles:
    """Return `directions` by block, each with an `explained_variances` of 0, which the loader requires.

    The library appends `.svec` to a name without it, so the file always ends in `.svec`.
    Source: activation-steering, steering_vector.py and leash_layer.py.
    """
    export_format = FORMATS["svec"]
    names = {block: export_format.layer(block, vector.model.type) for block in vector.layers}
    content = {
        "model_type": vector.model.type,
        "directions": {names[block]: values.tolist() for block, values in vector.layers.items()},
        "explained_variances": dict.fromkeys(names.values(), 0.0),
        "featgraph": describe(vector, approximations),
    }
    text = json.dumps(content, ensure_ascii=False)
    return OutputFiles({beside(stem(out, ".svec"), ".svec"): f"{text}\n".encode()})

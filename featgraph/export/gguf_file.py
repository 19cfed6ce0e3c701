"""GGUF control vectors, for llama.cpp, repeng and EasySteer."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from featgraph.export.files import OutputFiles, beside, stem
from featgraph.export.formats import FORMATS
from featgraph.export.provenance import as_text, describe, title

if TYPE_CHECKING:
    from featgraph.core.arrays import Vector
    from featgraph.steering import SteeringVector


def llama_cpp(vector: "SteeringVector", out: Path, approximations: tuple[str, ...]) -> OutputFiles:
    """Return `direction.N`, F32, for the output of block N, with provenance in `featgraph.*` keys.

    Source: llama.cpp common/common.cpp, common_control_vector_load_one; repeng control vector export.
    """
    return OutputFiles({out: _gguf(vector, "gguf", vector.layers, approximations)})


def repeng(vector: "SteeringVector", out: Path, approximations: tuple[str, ...]) -> OutputFiles:
    """Return the same for every block of the model, with zeros for blocks without a vector.

    repeng looks up a direction for each block that its caller wraps, so none may be missing.
    """
    import numpy as np

    nothing = np.zeros(vector.model.d_model, dtype=np.float32)
    every = {block: vector.layers.get(block, nothing) for block in range(vector.model.n_layers)}
    return OutputFiles({out: _gguf(vector, "repeng", every, approximations)})


def easysteer(vector: "SteeringVector", out: Path, approximations: tuple[str, ...]) -> OutputFiles:
    """Return the vector as gguf, and a spec with the layers and tokens at which it is added.

    Source: EasySteer docs/user-guide/steering.md, VectorSpec and ApplySpec.
    """
    name = stem(out, ".gguf", ".json")
    weights = beside(name, ".gguf")
    positions = vector.settings.positions
    phases = [
        word for word, other in (("prompt", "generated"), ("generation", "prompt")) if positions != other
    ]
    one = {
        "name": title(vector, approximations),
        "source": weights.name,
        "algorithm": "direct",
        "scale": 1.0,
        "layers": list(vector.layers),
        "normalize": False,
        "apply": dict.fromkeys(phases, "all"),
    }
    spec = json.dumps({"vectors": [one]}, indent=2, ensure_ascii=False)
    return OutputFiles(
        {
            weights: _gguf(vector, "easysteer", vector.layers, approximations),
            beside(name, ".json"): f"{spec}\n".encode(),
        }
    )


def _gguf(
    vector: "SteeringVector", format: str, layers: "dict[int, Vector]", approximations: tuple[str, ...]
) -> bytes:
    from gguf import GGUFWriter

    export_format = FORMATS[format]
    with TemporaryDirectory() as folder:  # The gguf writer only writes to a path.
        path = Path(folder) / "vector.gguf"
        writer = GGUFWriter(path, "controlvector")
        writer.add_string("controlvector.model_hint", vector.model.type)
        writer.add_uint32("controlvector.layer_count", len(layers))
        for name, value in as_text(describe(vector, approximations)).items():
            writer.add_string(f"featgraph.{name}", value)
        for block, values in layers.items():
            writer.add_tensor(export_format.layer(block, vector.model.type), values)
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()
        return path.read_bytes()

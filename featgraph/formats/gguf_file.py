"""GGUF control vectors, as repeng writes them and llama.cpp and EasySteer read them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from featgraph.errors import UsageError
from featgraph.formats.provenance import describe

if TYPE_CHECKING:
    from featgraph.steering import SteeringVector


def save(vector: "SteeringVector", path: Path) -> None:
    """Write `direction.N`, F32, for the output of block N, with provenance in `featgraph.*` keys.

    Raises UsageError: the vector writes after block 0, which a reader would take as a damaged file.
    Source: llama.cpp common/common.cpp, common_control_vector_load_one; repeng control vector export.
    """
    from gguf import GGUFWriter

    if 0 in vector.layers:
        raise _no_layer_zero(vector)
    writer = GGUFWriter(path, "controlvector")
    writer.add_string("controlvector.model_hint", vector.model.type)
    writer.add_uint32("controlvector.layer_count", len(vector.layers))
    for name, value in describe(vector).items():
        writer.add_string(f"featgraph.{name}", value if isinstance(value, str) else json.dumps(value))
    for layer, values in vector.layers.items():
        writer.add_tensor(f"direction.{layer}", values)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _no_layer_zero(vector: "SteeringVector") -> UsageError:
    first = [member.key for member in vector.members if member.write_layer == 0]
    last = max(vector.layers)
    mend = f"leave it out with --layers 1-{last}, or use" if last > 0 else "use"
    return UsageError(
        f"{', '.join(map(repr, first))} writes after block 0, and llama.cpp rejects a gguf control vector "
        f"with direction.0; {mend} --format safetensors"
    )

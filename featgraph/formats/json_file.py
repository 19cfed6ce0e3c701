"""JSON: everything the safetensors file holds, for people; one line per layer's vector."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from featgraph.formats.provenance import describe

if TYPE_CHECKING:
    from featgraph.steering import SteeringVector


def save(vector: "SteeringVector", path: Path) -> None:
    """Write the provenance and, under `layers`, the numbers by block; read as float32 they are exact."""
    head = json.dumps(describe(vector), indent=2, ensure_ascii=False).removesuffix("\n}")
    lines = [f'    "{layer}": {json.dumps(values.tolist())}' for layer, values in vector.layers.items()]
    body = ",\n".join(lines)
    path.write_text(f'{head},\n  "layers": {{\n{body}\n  }}\n}}\n', encoding="utf-8")

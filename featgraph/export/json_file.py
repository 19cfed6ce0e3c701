"""The plan: a whole steering vector as JSON, one line per layer; `plan_reader` reads it back."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from featgraph.export.files import OutputFiles
from featgraph.export.formats import FORMATS
from featgraph.export.provenance import describe

if TYPE_CHECKING:
    from featgraph.core.arrays import Vector
    from featgraph.steering import SteeringVector


def plan(
    vector: "SteeringVector",
    out: Path,
    approximations: tuple[str, ...],
    extra: Mapping[str, object] | None = None,
) -> OutputFiles:
    """Return the provenance, the graph's path, and the numbers by block under `layers` and `middles`.

    Read as float32 the numbers are exact. extra: further keys, for `read_extra`.
    """
    export_format = FORMATS["json"]
    head: dict[str, object] = describe(vector, approximations)
    if vector.suite is not None:
        head["graph"] = str(vector.suite.path.absolute())
    for name, value in (extra or {}).items():
        if name in {*head, "layers", "middles", "graph"}:
            raise ValueError(f"{name!r} is a key of the plan itself")
        head[name] = value

    def body(vectors: "dict[int, Vector]") -> str:
        lines = [
            f'    "{export_format.layer(block, vector.model.type)}": {json.dumps(values.tolist())}'
            for block, values in vectors.items()
        ]
        return "{\n" + ",\n".join(lines) + "\n  }" if lines else "{}"

    text = json.dumps(head, indent=2, ensure_ascii=False, allow_nan=False).removesuffix("\n}")
    text += f',\n  "layers": {body(vector.layers)},\n  "middles": {body(vector.middles)}\n}}\n'
    return OutputFiles({out: text.encode(errors="surrogatepass")})

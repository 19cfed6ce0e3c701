"""Commands that steer: export."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

import featgraph
from featgraph import output
from featgraph.cli import options
from featgraph.cli.app import command
from featgraph.cli.scales import weighted, with_settings


@command("export demo.featgraph 3/res/346 --where cumulative --format gguf -o feature.gguf")
@with_settings
def export(
    graph: options.GraphPath,
    features: options.WeightedKeys,
    out: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write.")],
    settings: Any,
    format: Annotated[
        Literal["gguf", "safetensors", "json"] | None,
        typer.Option("--format", help="The file's format.  [default: by its name]"),
    ] = None,
    layers: Annotated[
        str | None, typer.Option(metavar="FIRST-LAST", help="Only vectors of these layers.  [default: all]")
    ] = None,
) -> None:
    """Write features as a steering vector for other tools."""
    from featgraph import formats

    with featgraph.open(graph) as opened:
        vector = opened.steering_vector(weighted(features), **settings)
    if layers is not None:
        vector = vector.between(*options.layer_range(layers))
    formats.write(vector, out, format or out.suffix.removeprefix("."))
    layer = "layer" if len(vector.layers) == 1 else "layers"
    output.note(f"wrote {out}: {layer} {', '.join(map(str, vector.layers))} of {vector.model.name}")

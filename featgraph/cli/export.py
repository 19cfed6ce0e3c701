"""The command that writes steering vectors and lineages for other tools: export."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import featgraph
from featgraph import output
from featgraph.cli import options
from featgraph.cli.app import command
from featgraph.cli.steering_options import weighted, with_settings
from featgraph.errors import UsageError

if TYPE_CHECKING:
    from featgraph import Graph
    from featgraph.export import Written


def _format_names(incomplete: str) -> list[str]:
    from featgraph.export import ALL_FORMATS

    return [name for name in ALL_FORMATS if name.startswith(incomplete)]


@command("export demo.featgraph 3/res/346 --where cumulative --format gguf -o feature.gguf")
@with_settings
def export(
    graph: options.GraphPath,
    features: options.WeightedKeys,
    out: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The file to write; a folder for caa and lm-eval."
        ),
    ],
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="gguf (llama.cpp), safetensors, npz, json (a plan for steer), repeng, steering-vectors, "
            "easysteer (vLLM), lm-eval, svec, neuronpedia, caa, or attribution-graph (a feature's lineage)."
            "  [default: by the file's name]",
            autocompletion=_format_names,
        ),
    ] = None,
    layers: Annotated[
        str | None, typer.Option(metavar="FIRST-LAST", help="Only vectors of these layers.  [default: all]")
    ] = None,
    approximate: Annotated[
        bool,
        typer.Option(
            "--approximate", help="Write the nearest thing if the format cannot hold the vector, and say so."
        ),
    ] = False,
    *,
    settings: Any,
) -> None:
    """Write features as a steering vector for other tools."""
    from featgraph import export as formats

    chosen = formats.format_of(out, format)
    if chosen in formats.LINEAGE_FORMATS:
        with featgraph.open(graph) as opened:
            _tell(_lineage(opened, features, out, settings, chosen), f"the lineage of {features[0]}")
        return
    with featgraph.open(graph) as opened:
        vector = opened.steering_vector(weighted(features), **settings)
    if layers is not None:
        vector = vector.between(*options.layer_range(layers))
    written = formats.write(vector, out, chosen, approximate=approximate)
    word = "layer" if len(vector.write_layers) == 1 else "layers"
    _tell(written, f"{word} {', '.join(map(str, vector.write_layers))} of {vector.model.name}")


def _lineage(graph: "Graph", features: list[str], out: Path, settings: Any, format: str) -> "Written":
    from featgraph import export as formats
    from featgraph.core.keys import MODULE_THRESHOLD
    from featgraph.steering import Settings

    if len(features) > 1:
        raise UsageError(f"{format} holds the lineage of one feature, got {len(features)}")
    for name, default in vars(Settings()).items():
        if settings[name] != default and name not in ("min", "writers"):
            raise UsageError(
                f"{format} takes no --{name}, because it does not steer; only --min and --writers"
            )
    least = MODULE_THRESHOLD if settings["writers"] is None else settings["writers"]
    found = graph.lineage(features[0], min=settings["min"], writer_min=least)
    return formats.write_lineage(found, graph.store, out, format)


_NAMED = 2
"""Files named in the note at the end; more are counted."""


def _tell(written: "Written", what: str) -> None:
    paths = written.paths
    many = len(paths) > _NAMED
    names = f"{len(paths)} files to {paths[0].parent}" if many else ", ".join(map(str, paths))
    output.note(f"wrote {names}: {what}")
    for approximation in written.approximations:
        output.note(f"approximate: {approximation}")
    for line in written.notes:
        output.note(line)

"""Commands that make something: recipes, ingest, export."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Literal

import typer

import featgraph
from featgraph import output
from featgraph.cli import options
from featgraph.cli.app import command
from featgraph.result import Result


@command("recipes")
def recipes(
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
) -> None:
    """List what can be ingested."""
    from featgraph.recipe import all_recipes

    rows: list[tuple[object, ...]] = [
        (recipe.name, recipe.title, recipe.model_name, list(recipe.sites), recipe.layers, str(recipe.file))
        for recipe in all_recipes()
    ]
    columns = ["name", "title", "model", "sites", "layers", "file"]
    types = ["VARCHAR", "VARCHAR", "VARCHAR", "VARCHAR[]", "INTEGER", "VARCHAR"]
    output.write(Result(columns, rows, types), format, out=out, limit=limit)


@command("ingest demo -o demo.featgraph")
def ingest(
    recipe: options.RecipeName,
    out: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="GRAPH", help="The graph directory.  [default: NAME.featgraph]"
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
) -> None:
    """Build the feature graph of a model and its SAEs.

    A graph that is there already is replaced, once the new one is complete.
    """
    from featgraph.recipe import find_recipe

    chosen = find_recipe(recipe)
    from featgraph.build import ingest as build
    from featgraph.progress import Bars, Silent

    with nullcontext(Silent()) if quiet else Bars() as progress:
        made = build(chosen, out or Path(f"{chosen.name}.featgraph"), progress)
    if not quiet:
        output.note(f"{made.features:,} features and {made.edges:,} edges from {made.n_tokens:,} tokens")
        output.note(
            f"{made.births:,} births, {made.deaths:,} deaths, {made.splits:,} splits, {made.merges:,} merges "
            f"at the default threshold; `featgraph run {made.path} persistence` shows them over a range"
        )
        output.note(
            f"next: `featgraph info {made.path}`, or `featgraph lineage {made.path} KEY` with a KEY from "
            f"`featgraph run {made.path} stable-features`"
        )
    output.write_text(str(made.path))


@command("export demo.featgraph 3/res/346 --lineage --format gguf -o feature.gguf")
def export(
    graph: options.GraphPath,
    features: options.Keys,
    out: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write.")],
    format: Annotated[
        Literal["gguf", "safetensors", "json"] | None,
        typer.Option("--format", help="The file's format.  [default: by its name]"),
    ] = None,
    lineage: Annotated[
        bool, typer.Option("--lineage", help="Steer along the feature's span, not at its layer only.")
    ] = False,
    layers: Annotated[
        str | None, typer.Option(metavar="FIRST-LAST", help="Only vectors of these layers.  [default: all]")
    ] = None,
    scale: Annotated[float, typer.Option(metavar="FACTOR", help="Multiplies every vector.")] = 1.0,
    unit: Annotated[
        Literal["raw", "unit", "max-act"],
        typer.Option(
            help="What scale 1 is: the decoder row, length 1, or the row times its largest activation."
        ),
    ] = "raw",
) -> None:
    """Write features as a steering vector for other tools."""
    from featgraph import formats

    with featgraph.open(graph) as opened:
        vector = opened.steering_vector(features, lineage=lineage, scale=scale, unit=unit)
    if layers is not None:
        vector = vector.between(*options.layer_range(layers))
    formats.write(vector, out, format or out.suffix.removeprefix("."))
    layer = "layer" if len(vector.layers) == 1 else "layers"
    output.note(f"wrote {out}: {layer} {', '.join(map(str, vector.layers))} of {vector.model_name}")

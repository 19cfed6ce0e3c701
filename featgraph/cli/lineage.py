"""The command that shows where a feature comes from and what becomes of it: lineage."""

from typing import Annotated

import typer

import featgraph
from featgraph import output
from featgraph.cli import options
from featgraph.cli.verbs import verb_command
from featgraph.core.keys import MODULE_THRESHOLD


@verb_command("lineage")
def lineage(
    graph: options.GraphPath,
    key: options.Key,
    min: options.MinOption = None,
    hops: options.HopsOption = None,
    writers: options.WritersOption = True,
    writer_min: options.WriterMinOption = MODULE_THRESHOLD,
    by: options.ByOption = "cosine",
    format: Annotated[
        output.LineageFormat | None,
        typer.Option("--format", help="Output format.  [default: by the name of -o, or tree]"),
    ] = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
) -> None:
    """Print a lineage as a tree, as rows, as a graph or as a picture."""
    with featgraph.open(graph) as opened:
        found = opened.lineage(key, min=min, hops=hops, writers=writers, writer_min=writer_min, by=by)
        output.write_lineage(found, format, out=out, limit=limit)

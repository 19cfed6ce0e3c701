"""The command that lists features by direction: similar."""

from pathlib import Path
from typing import Annotated, Any

import typer

from featgraph.cli import options
from featgraph.cli.verbs import print_verb, verb_command


@verb_command("similar")
def similar(
    graph: options.GraphPath,
    key: options.OptionalKey = None,
    k: Annotated[int, typer.Option("-k", metavar="K", help="How many features of each SAE.")] = 10,
    vector: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Instead of KEY: a vector in the residual stream, .npy, .json, ..."
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Instead of KEY: what this text adds at each site; runs the model."
        ),
    ] = None,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
) -> None:
    """Print the features nearest to a feature, a vector or a text."""
    arguments: dict[str, Any] = {"k": k}
    if key is not None:
        arguments["f"] = key
    if vector is not None:
        from featgraph.query.similar import read_vector

        arguments["vector"] = read_vector(vector)
    if text is not None:
        arguments["text"] = text
    print_verb(graph, "similar", arguments, format, out, limit)

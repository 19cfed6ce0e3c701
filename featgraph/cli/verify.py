"""The command that checks a graph: verify."""

import typer

from featgraph import output
from featgraph.cli import options
from featgraph.cli.app import command
from featgraph.errors import StoreError


@command("verify demo.featgraph")
def verify(
    graph: options.GraphPath,
    format: options.FormatOption = None,
    out: options.OutOption = None,
) -> None:
    """Check every hash, count and rule of a graph; exit 3 if one fails.

    Worth it for a graph from somebody else, or after a disk was full: whether ids are dense and edges go
    downstream, ranks and cosines are right, vectors are of length 1 and the files those of the manifest.
    """
    from featgraph.store.verify import is_whole
    from featgraph.store.verify import verify as checked

    result = checked(graph)
    output.write(result, format, out=out)
    if not is_whole(result):
        raise typer.Exit(StoreError.exit_code)

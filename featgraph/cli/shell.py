"""The command that keeps a graph open and runs statement after statement: shell."""

from typing import Annotated

import typer

from featgraph.cli import options
from featgraph.cli.app import command
from featgraph.core.result import MAX_ROWS, TIMEOUT
from featgraph.errors import FeatgraphError
from featgraph.output import Format


@command("shell demo.featgraph")
def shell(
    graph: options.GraphPath,
    timeout: options.TimeoutOption = TIMEOUT,
    max_rows: options.MaxRowsOption = MAX_ROWS,
    memory: options.MemoryOption = None,
    format: Annotated[
        Format | None, typer.Option("--format", help="Output format.  [default: table]")
    ] = None,
    limit: options.LimitOption = None,
) -> None:
    """Ask at a prompt with history and completion.

    A statement ends with a semicolon; .help lists the commands of the prompt. Statements may also come
    through a pipe: they run one by one, and the exit code is 1 if one fails.
    """
    from featgraph.shell import Session, run

    opened = Session(
        graph,
        format=format,
        limit=limit,
        timeout=timeout,
        max_rows=max_rows,
        memory=options.memory_size(memory),
    )
    with opened as session:
        if not run(session):
            raise typer.Exit(FeatgraphError.exit_code)

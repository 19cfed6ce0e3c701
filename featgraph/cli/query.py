"""The commands query, queries, run and info; each imports the query language when it runs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

import featgraph
from featgraph import output
from featgraph.cli import options
from featgraph.cli.app import command
from featgraph.core.bounded import read_text
from featgraph.core.files import os_reason
from featgraph.core.result import MAX_ROWS, TIMEOUT
from featgraph.errors import UsageError


@command(
    "query demo.featgraph \"MATCH p = (a '3/res/346')->{1,2}(b) RETURN keys(p), weight(p)\"", name="query"
)
def ask(
    graph: options.GraphPath,
    statement: Annotated[
        str | None,
        typer.Argument(metavar="STATEMENT", help="A SELECT, or MATCH ... RETURN ...."),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", "-f", metavar="FILE", help="Read the statement from a file, - for stdin."),
    ] = None,
    parameter: options.ParameterOption = None,
    explain: Annotated[bool, typer.Option("--explain", help="Print the SQL instead of running it.")] = False,
    timeout: options.TimeoutOption = TIMEOUT,
    max_rows: options.MaxRowsOption = MAX_ROWS,
    memory: options.MemoryOption = None,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
) -> None:
    """Run one read-only statement: SQL, path patterns, or both.

    In SQL, a table may be GRAPH_TABLE (MATCH ... COLUMNS (...)) or a verb such as lineage('3/res/346', min =>
    0.6).
    """
    from featgraph import query

    values = {name: query.literal(text) for name, text in options.parameters(parameter).items()}
    text = _statement(statement, file)
    most = options.memory_size(memory)
    with featgraph.open(graph, timeout=timeout or None, memory=most) as opened:
        if explain:
            output.write_text(query.explain(opened.store, text, values, max_rows=max_rows or None), out=out)
            return
        result = query.run(opened.store, text, values, timeout=timeout or None, max_rows=max_rows or None)
        output.write(result, format, out=out, limit=limit, store=opened.store)


@command("queries splits")
def queries(
    name: options.OptionalQueryName = None,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
) -> None:
    """List the named queries, or print one."""
    from featgraph import query

    if name is None or format is not None:
        chosen = query.all_named() if name is None else [query.named(name)]
        output.write(query.listing(chosen), format, out=out, limit=limit)
    else:
        output.write_text(query.named(name).statement, out=out)


@command("run demo.featgraph splits -p min=0.7", name="run")
def run_query(
    graph: options.GraphPath,
    name: options.QueryName,
    parameter: options.ParameterOption = None,
    timeout: options.TimeoutOption = TIMEOUT,
    max_rows: options.MaxRowsOption = MAX_ROWS,
    memory: options.MemoryOption = None,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
) -> None:
    """Run a named query.

    `featgraph queries NAME` shows what a query returns and which parameters it takes.
    """
    from featgraph import query

    values = options.parameters(parameter)
    most = options.memory_size(memory)
    with featgraph.open(graph, timeout=timeout or None, memory=most) as opened:
        result = query.run_named(
            opened.store, name, values, timeout=timeout or None, max_rows=max_rows or None
        )
        output.write(result, format, out=out, limit=limit, store=opened.store)


@command("info demo.featgraph")
def info(
    graph: options.GraphPath,
    format: options.FormatOption = None,
    out: options.OutOption = None,
) -> None:
    """Show what a graph holds, how it was made, and its health."""
    from featgraph import query

    with featgraph.open(graph) as opened:
        sections = query.overview(opened.store)
    output.write_sections(sections, format, out=out)


def _statement(statement: str | None, file: str | None) -> str:
    """Return the statement: the argument, the file's content, or stdin."""
    if (statement is None) == (file is None):
        raise UsageError("give one statement, either as an argument or with -f FILE")
    if statement is not None:
        return statement
    if file == "-":
        return sys.stdin.read()
    try:
        return read_text(Path(str(file)))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {file}: {os_reason(error)}") from error

"""The verbs of the language as commands: each prints what its table macro answers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

import featgraph
from featgraph import output, query
from featgraph.cli import options
from featgraph.cli.app import command
from featgraph.model import MODULE_THRESHOLD


@command("lineage demo.featgraph 3/res/346 --min 0.6")
def lineage(
    graph: options.GraphPath,
    key: options.Key,
    min: options.MinOption = None,
    hops: options.HopsOption = None,
    writers: options.WritersOption = True,
    writer_min: options.WriterMinOption = MODULE_THRESHOLD,
    format: Annotated[
        Literal["tree", "table", "json", "jsonl", "csv", "parquet"] | None,
        typer.Option("--format", help="How it is written.  [default: by the name of -o, or tree]"),
    ] = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
) -> None:
    """Show where a feature comes from and what becomes of it.

    The tree is always whole; --limit is for rows.
    """
    if format in (None, "tree"):
        output.prepare_tree()
    with featgraph.open(graph) as opened:
        found = opened.lineage(key, min=min, hops=hops, writers=writers, writer_min=writer_min)
    output.write_lineage(found, format, out=out, limit=limit)


@command("similar demo.featgraph 3/res/346 -k 5")
def similar(
    graph: options.GraphPath,
    key: options.Key,
    k: Annotated[int, typer.Option("-k", metavar="K", help="How many features of each SAE.")] = 10,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
) -> None:
    """List the features with the nearest directions in every SAE."""
    with featgraph.open(graph) as opened:
        result = opened.similar(key, k=k)
    output.write(result, format, out=out, limit=limit)


@command("ancestors demo.featgraph 3/res/346 --hops 2")
def ancestors(
    graph: options.GraphPath,
    key: options.Key,
    min: options.MinOption = None,
    hops: options.HopsOption = None,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
) -> None:
    """List everything upstream of a feature over residual edges."""
    _print(graph, "ancestors", {"f": key, "min": min, "hops": hops}, format, out, limit)


@command("descendants demo.featgraph 3/res/346 --hops 2")
def descendants(
    graph: options.GraphPath,
    key: options.Key,
    min: options.MinOption = None,
    hops: options.HopsOption = None,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
) -> None:
    """List everything downstream of a feature over residual edges."""
    _print(graph, "descendants", {"f": key, "min": min, "hops": hops}, format, out, limit)


@command("subgraph demo.featgraph 3/res/346 --format json")
def subgraph(
    graph: options.GraphPath,
    key: options.Key,
    min: options.MinOption = None,
    hops: options.HopsOption = None,
    writers: options.WritersOption = True,
    writer_min: options.WriterMinOption = MODULE_THRESHOLD,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
) -> None:
    """List the edges of a feature's lineage."""
    arguments = {"f": key, "min": min, "hops": hops, "writers": writers, "writer_min": writer_min}
    _print(graph, "subgraph", arguments, format, out, limit)


@command("splits demo.featgraph --min 0.7")
def splits(
    graph: options.GraphPath,
    min: options.MinOption = None,
    layer: options.LayerOption = None,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
) -> None:
    """List features that go on as two or more.

    Their children pass the threshold and have them as best parent.
    """
    _print(graph, "splits", {"min": min, "layer": layer}, format, out, limit)


@command("merges demo.featgraph --min 0.7")
def merges(
    graph: options.GraphPath,
    min: options.MinOption = None,
    layer: options.LayerOption = None,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
) -> None:
    """List features that two or more others become.

    Their parents pass the threshold and have them as best child.
    """
    _print(graph, "merges", {"min": min, "layer": layer}, format, out, limit)


@command("births demo.featgraph --layer 4")
def births(
    graph: options.GraphPath,
    min: options.MinOption = None,
    layer: options.LayerOption = None,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
) -> None:
    """List features that have no parent, and what writes them."""
    _print(graph, "births", {"min": min, "layer": layer}, format, out, limit)


@command("deaths demo.featgraph --layer 4")
def deaths(
    graph: options.GraphPath,
    min: options.MinOption = None,
    layer: options.LayerOption = None,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
) -> None:
    """List features that have no child."""
    _print(graph, "deaths", {"min": min, "layer": layer}, format, out, limit)


def _print(
    graph: Path,
    verb: str,
    arguments: Mapping[str, object],
    format: output.Format | None,
    out: Path | None,
    limit: int | None,
) -> None:
    with featgraph.open(graph) as opened:
        result = query.run_verb(opened.store, verb, arguments)
    output.write(result, format, out=out, limit=limit)

"""The verbs of the language as commands: each prints what its table macro answers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

import featgraph
from featgraph import output
from featgraph.cli import options
from featgraph.cli.app import command
from featgraph.core.keys import MODULE_THRESHOLD
from featgraph.core.result import TIMEOUT


@command("lineage demo.featgraph 3/res/346 --min 0.6")
def lineage(
    graph: options.GraphPath,
    key: options.Key,
    min: options.MinOption = None,
    hops: options.HopsOption = None,
    writers: options.WritersOption = True,
    writer_min: options.WriterMinOption = MODULE_THRESHOLD,
    format: Annotated[
        output.LineageFormat | None,
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
    key: options.OptionalKey = None,
    k: Annotated[int, typer.Option("-k", metavar="K", help="How many features of each SAE.")] = 10,
    vector: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Instead of KEY, a direction in the residual stream: .npy, ..."),
    ] = None,
    text: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Instead of KEY, what this text adds; runs the model.")
    ] = None,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
) -> None:
    """List the features with the nearest directions in every SAE.

    Nearest to a feature's own, to one in a file (.npy, .json or .safetensors), or to that of a text.
    """
    arguments: dict[str, object] = {"k": k}
    if key is not None:
        arguments["f"] = key
    if vector is not None:
        from featgraph.query.similar import read_vector

        arguments["vector"] = read_vector(vector)
    if text is not None:
        arguments["text"] = text
    _print(graph, "similar", arguments, format, out, limit)


@command("ancestors demo.featgraph 3/res/346 --hops 2")
def ancestors(
    graph: options.GraphPath,
    key: options.Key,
    min: options.MinOption = None,
    hops: options.HopsOption = None,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
    timeout: options.TimeoutOption = TIMEOUT,
) -> None:
    """List everything upstream of a feature over residual edges."""
    _print(graph, "ancestors", {"f": key, "min": min, "hops": hops}, format, out, limit, timeout)


@command("descendants demo.featgraph 3/res/346 --hops 2")
def descendants(
    graph: options.GraphPath,
    key: options.Key,
    min: options.MinOption = None,
    hops: options.HopsOption = None,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
    timeout: options.TimeoutOption = TIMEOUT,
) -> None:
    """List everything downstream of a feature over residual edges."""
    _print(graph, "descendants", {"f": key, "min": min, "hops": hops}, format, out, limit, timeout)


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
    timeout: options.TimeoutOption = TIMEOUT,
) -> None:
    """List the edges of a feature's lineage."""
    arguments = {"f": key, "min": min, "hops": hops, "writers": writers, "writer_min": writer_min}
    _print(graph, "subgraph", arguments, format, out, limit, timeout)


@command("paths demo.featgraph 1/res/575 3/res/346 -k 3 --by min")
def paths(
    graph: options.GraphPath,
    a: options.UpstreamKey,
    b: options.DownstreamKey,
    k: Annotated[int, typer.Option("-k", metavar="K", help="How many paths.")] = 1,
    min: options.MinOption = None,
    by: options.ScoreOption = "product",
    writer_min: options.WriterMinOption = MODULE_THRESHOLD,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
    timeout: options.TimeoutOption = TIMEOUT,
) -> None:
    """List the best paths from one feature down to another.

    Out of an mlp or att feature, a path begins with an edge by which it writes.
    """
    arguments = {"a": a, "b": b, "k": k, "min": min, "by": by, "writer_min": writer_min}
    _print(graph, "paths", arguments, format, out, limit, timeout)


@command("neighbors demo.featgraph 3/res/346 --min 0.3")
def neighbors(
    graph: options.GraphPath,
    key: options.Key,
    min: options.MinOption = None,
    writer_min: options.WriterMinOption = MODULE_THRESHOLD,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
    timeout: options.TimeoutOption = TIMEOUT,
) -> None:
    """List every edge at a feature, with its evidence."""
    _print(graph, "neighbors", {"f": key, "min": min, "writer_min": writer_min}, format, out, limit, timeout)


@command("splits demo.featgraph --min 0.7")
def splits(
    graph: options.GraphPath,
    min: options.MinOption = None,
    layer: options.LayerOption = None,
    evidence: options.EvidenceOption = False,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
    timeout: options.TimeoutOption = TIMEOUT,
) -> None:
    """List features that go on as two or more.

    Their children pass the threshold and have them as best parent.
    """
    _print(graph, "splits", {"min": min, "layer": layer, "evidence": evidence}, format, out, limit, timeout)


@command("merges demo.featgraph --min 0.7")
def merges(
    graph: options.GraphPath,
    min: options.MinOption = None,
    layer: options.LayerOption = None,
    evidence: options.EvidenceOption = False,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
    timeout: options.TimeoutOption = TIMEOUT,
) -> None:
    """List features that two or more others become.

    Their parents pass the threshold and have them as best child.
    """
    _print(graph, "merges", {"min": min, "layer": layer, "evidence": evidence}, format, out, limit, timeout)


@command("births demo.featgraph --layer 4")
def births(
    graph: options.GraphPath,
    min: options.MinOption = None,
    layer: options.LayerOption = None,
    evidence: options.EvidenceOption = False,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
    timeout: options.TimeoutOption = TIMEOUT,
) -> None:
    """List features that have no parent, and what writes them."""
    _print(graph, "births", {"min": min, "layer": layer, "evidence": evidence}, format, out, limit, timeout)


@command("deaths demo.featgraph --layer 4")
def deaths(
    graph: options.GraphPath,
    min: options.MinOption = None,
    layer: options.LayerOption = None,
    evidence: options.EvidenceOption = False,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
    timeout: options.TimeoutOption = TIMEOUT,
) -> None:
    """List features that have no child."""
    _print(graph, "deaths", {"min": min, "layer": layer, "evidence": evidence}, format, out, limit, timeout)


@command("chains demo.featgraph --min 0.8")
def chains(
    graph: options.GraphPath,
    min: options.MinOption = None,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
    timeout: options.TimeoutOption = TIMEOUT,
) -> None:
    """List runs of features that persist layer by layer.

    Each is the next one's best parent and has it as best child.
    """
    _print(graph, "chains", {"min": min}, format, out, limit, timeout)


@command("components demo.featgraph --min 0.8")
def components(
    graph: options.GraphPath,
    min: options.MinOption = None,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
) -> None:
    """List the features that edges join, and which with which."""
    _print(graph, "components", {"min": min}, format, out, limit)


@command("flow demo.featgraph 2 5")
def flow(
    graph: options.GraphPath,
    layer_a: options.FromLayer = None,
    layer_b: options.ToLayer = None,
    min: options.MinOption = None,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
    timeout: options.TimeoutOption = TIMEOUT,
) -> None:
    """Count what happens from each residual layer to the next."""
    _print(graph, "flow", {"layer_a": layer_a, "layer_b": layer_b, "min": min}, format, out, limit, timeout)


@command("search demo.featgraph 'mom dad'")
def search(
    graph: options.GraphPath,
    words: Annotated[
        str,
        typer.Argument(metavar="WORDS", help='What the label says; words in "double quotes" stand together.'),
    ],
    source: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only labels of this source, such as neuronpedia.  [default: all]"),
    ] = None,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
    timeout: options.TimeoutOption = TIMEOUT,
) -> None:
    """List the features whose labels have some words, best first.

    All words must be there, whole or as the beginning of a longer one; case and accents do not count.
    """
    _print(graph, "search", {"words": words, "source": source}, format, out, limit, timeout)


def _print(
    graph: Path,
    verb: str,
    arguments: Mapping[str, object],
    format: output.Format | None,
    out: Path | None,
    limit: int | None,
    timeout: float = TIMEOUT,
) -> None:
    from featgraph.query import run_verb

    with featgraph.open(graph) as opened:
        result = run_verb(opened.store, verb, arguments, timeout=timeout or None)
        output.write(result, format, out=out, limit=limit, store=opened.store)

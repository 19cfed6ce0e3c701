"""The command that removes features to see what depends on them: ablate."""

from typing import Annotated, Literal

import typer

import featgraph
from featgraph import output
from featgraph.cli import options
from featgraph.cli.app import command
from featgraph.errors import UsageError

Report = Literal["methods", "measures"]

EdgesOption = Annotated[
    str | None,
    typer.Option(
        metavar="STATEMENT",
        help="Edges to ablate, as columns src and dst: ids or keys.  [default: those that verbs go along]",
    ),
]
SampleOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        help="So many of the edges, or targets, at random; 0 for all edges.  [default: 1000]",
    ),
]
TokensOption = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Most tokens on which an edge is ablated.  [default: 16]"),
]
ReadOption = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Most tokens read of the text.  [default: the recipe's]"),
]
SeedOption = Annotated[int, typer.Option(min=0, metavar="N", help="Other edges, targets and tokens.")]
ReportOption = Annotated[
    Report | None,
    typer.Option(
        help="methods: rules for choosing the upstream feature, compared; measures: which evidence predicts "
        "what was ablated. Nothing is written."
    ),
]


@command("ablate demo.featgraph --edges \"SELECT src, dst FROM edge WHERE kind = 'res_res'\" --sample 200")
def ablate(
    graph: options.GraphPath,
    edges: EdgesOption = None,
    sample: SampleOption = None,
    tokens: TokensOption = None,
    text: options.TextOption = None,
    read: ReadOption = None,
    seed: SeedOption = 0,
    report: ReportOption = None,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
    quiet: options.QuietOption = False,
) -> None:
    """Remove upstream features and measure what it does downstream.

    At tokens where both ends of an edge fire, the upstream feature is taken out and the model runs on to the
    downstream one. The mean of 1 - activation without / with it becomes the edge's ablation_change, the
    number of tokens its ablation_n.
    """
    given = {"edges": edges, "sample": sample, "tokens": tokens, "text": text, "read": read}
    _check(report, {name for name, value in given.items() if value is not None}, sample)
    from featgraph import ablation
    from featgraph.core.progress import shown

    if report == "measures":
        with featgraph.open(graph) as opened:
            output.write(ablation.predictions(opened.store, seed=seed), format, out=out, limit=limit)
        return
    with shown(quiet) as progress:
        if report == "methods":
            result = ablation.baselines(
                graph,
                sample=sample or ablation.TARGETS,
                text=text,
                read=read,
                seed=seed,
                progress=progress,
            )
        else:
            result = ablation.ablate(
                graph,
                edges,
                sample=ablation.SAMPLE if sample is None else sample or None,
                tokens=tokens or ablation.TOKENS,
                text=text,
                read=read,
                seed=seed,
                progress=progress,
            )
    output.write(result, format, out=out, limit=limit)
    if report is None:
        output.note(f"wrote ablation_change and ablation_n of {len(result):,} edges to {graph}")


def _check(report: Report | None, given: set[str], sample: int | None) -> None:
    """Raise UsageError for what means nothing beside a report."""
    useless = {"methods": {"edges", "tokens"}, "measures": {"edges", "sample", "tokens", "text", "read"}}
    for name in sorted(given & useless.get(report or "", set())):
        raise UsageError(f"--report {report} takes no --{name}")
    if report == "methods" and sample == 0:
        raise UsageError("--report methods draws its targets, so --sample 0 means nothing; give how many")

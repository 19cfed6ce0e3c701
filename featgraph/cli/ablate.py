"""The command that measures edges by ablation: ablate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import featgraph
from featgraph import output
from featgraph.cli import options
from featgraph.cli.app import command
from featgraph.errors import UsageError

if TYPE_CHECKING:
    from featgraph.core.progress import Progress
    from featgraph.core.result import Result

Report = Literal["methods", "measures"]

EdgesOption = Annotated[
    str | None,
    typer.Option(
        metavar="STATEMENT",
        help="Query for edges to ablate, as columns src and dst.  [default: edges that verbs follow]",
    ),
]
SampleOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        help="Size of a random sample of edges, or of targets; 0 for all edges.  [default: 1000]",
    ),
]
TokensOption = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Most tokens on which to ablate an edge.  [default: 16]"),
]
ReadOption = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Most tokens of the text to read.  [default: the recipe's]"),
]
SeedOption = Annotated[
    int, typer.Option(min=0, metavar="N", help="Seed of the random choice of edges, targets and tokens.")
]
ExhaustiveOption = Annotated[
    bool,
    typer.Option(
        "--exhaustive",
        help="Remove every active feature of --tokens tokens (2000) and measure the effect of every edge.",
    ),
]
ReportOption = Annotated[
    Report | None,
    typer.Option(
        help="methods: compare rules for choosing the upstream feature; measures: which evidence predicts "
        "the measured effect. Neither writes anything."
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
    exhaustive: ExhaustiveOption = False,
    report: ReportOption = None,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
    quiet: options.QuietOption = False,
) -> None:
    """Ablate upstream features and measure the effect downstream.

    On tokens where both features of an edge are active, the upstream one is removed and the model runs on to
    the downstream one. ablation_change of the edge is the mean of 1 - activation without / with it,
    ablation_n the number of tokens. With --exhaustive, effect is the mean over all tokens on which the
    downstream feature is active.
    """
    given = {"edges": edges, "sample": sample, "tokens": tokens, "text": text, "read": read}
    _check(report, exhaustive, {name for name, value in given.items() if value is not None}, sample)
    from featgraph import ablation
    from featgraph.core.progress import shown

    if report == "measures":
        with featgraph.open(graph) as opened:
            output.write(ablation.predictions(opened.store, seed=seed), format, out=out, limit=limit)
        return
    with shown(quiet) as progress:
        result = _run(graph, given, report, exhaustive=exhaustive, seed=seed, progress=progress)
    output.write(result, format, out=out, limit=limit)
    if exhaustive:
        output.note(f"wrote effect and ablation_change of all edges to {graph}")
    elif report is None:
        output.note(f"wrote ablation_change and ablation_n of {len(result):,} edges to {graph}")


def _run(
    graph: Path,
    given: dict[str, Any],
    report: Report | None,
    *,
    exhaustive: bool,
    seed: int,
    progress: "Progress",
) -> "Result":
    """Ablate as asked and return the rows to print."""
    from featgraph import ablation

    shared = {"text": given["text"], "read": given["read"], "seed": seed, "progress": progress}
    sample, tokens = given["sample"], given["tokens"]
    if report == "methods":
        return ablation.baselines(graph, sample=sample or ablation.TARGETS, **shared)
    if exhaustive:
        return ablation.ablate_exhaustively(graph, tokens=tokens or ablation.SAMPLED_TOKENS, **shared)
    sample = ablation.SAMPLE if sample is None else sample or None
    return ablation.ablate(graph, given["edges"], sample=sample, tokens=tokens or ablation.TOKENS, **shared)


def _check(report: Report | None, exhaustive: bool, given: set[str], sample: int | None) -> None:
    """Raise UsageError for an option that a report or an exhaustive ablation does not use."""
    if exhaustive and report is not None:
        raise UsageError(f"--report {report} ablates for itself; give either it or --exhaustive")
    if exhaustive and given & {"edges", "sample"}:
        raise UsageError(
            f"--exhaustive measures all edges, so it takes no --{min(given & {'edges', 'sample'})}"
        )
    useless = {"methods": {"edges", "tokens"}, "measures": {"edges", "sample", "tokens", "text", "read"}}
    for name in sorted(given & useless.get(report or "", set())):
        raise UsageError(f"--report {report} takes no --{name}")
    if report == "methods" and sample == 0:
        raise UsageError("--report methods needs a sample of targets; --sample must be 1 or more")

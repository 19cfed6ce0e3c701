"""The arguments and options that commands share, and what the shell completes for them."""

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from featgraph.errors import UsageError
from featgraph.output import Format


def _recipe_names(incomplete: str) -> list[str]:
    from featgraph.core.shipped import shipped

    return [
        path.stem for path in sorted(shipped("ingest").glob("*.toml")) if path.stem.startswith(incomplete)
    ]


def _query_names(incomplete: str) -> list[str]:
    from featgraph.core.shipped import shipped

    return [
        path.stem for path in sorted(shipped("queries").glob("*.sql")) if path.stem.startswith(incomplete)
    ]


GraphPath = Annotated[Path, typer.Argument(metavar="GRAPH", help="The graph directory, NAME.featgraph.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="The feature: layer/site/index, such as 3/res/346.")]
UpstreamKey = Annotated[str, typer.Argument(metavar="A", help="The feature where paths begin.")]
DownstreamKey = Annotated[str, typer.Argument(metavar="B", help="The feature where they end.")]
OptionalKey = Annotated[
    str | None, typer.Argument(metavar="KEY", help="The feature: layer/site/index, such as 3/res/346.")
]
WeightedKeys = Annotated[
    list[str],
    typer.Argument(metavar="FEATURE...", help="Features: layer/site/index, each with =WEIGHT if not 1."),
]
RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="A shipped recipe, or a path that ends in .toml.", autocompletion=_recipe_names
    ),
]
WidthOption = Annotated[
    str | None,
    typer.Option(metavar="WIDTH", help="Which width of the SAEs, such as 65k.  [default: the recipe's]"),
]
TokensOption = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Most tokens read.  [default: the recipe's]")
]
TextOption = Annotated[
    str | None,
    typer.Option(
        metavar="PATH", help="Text to read: a file, a folder, or a dataset's id.  [default: the recipe's]"
    ),
]
QueryName = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="A shipped query, or a path that ends in .sql.", autocompletion=_query_names
    ),
]
OptionalQueryName = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME", help="Print this query instead of listing all.", autocompletion=_query_names
    ),
]

FormatOption = Annotated[
    Format | None,
    typer.Option("--format", help="How rows are written.  [default: by the name of -o, or table]"),
]
OutOption = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to a file instead of stdout.")
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        min=0, metavar="N", help="Most rows written, 0 for all.  [default: all, or what fits the screen]"
    ),
]
ParameterOption = Annotated[
    list[str] | None,
    typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="Value of $NAME; repeat for more."),
]
TimeoutOption = Annotated[
    float, typer.Option(min=0, metavar="SECONDS", help="Stop the statement after so long, 0 for no limit.")
]
MaxRowsOption = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="N",
        help="Most rows of the answer, and most paths of one repeated edge, 0 for no limit.",
    ),
]
MinOption = Annotated[
    float | None,
    typer.Option(
        "--min",
        min=-1,
        max=1,
        metavar="COSINE",
        help="Smallest cosine.  [default: each SAE's threshold_high]",
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
HopsOption = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="How many edges to go each way.  [default: all]")
]
LayerOption = Annotated[int | None, typer.Option(metavar="LAYER", help="Only this layer.  [default: all]")]
EvidenceOption = Annotated[
    bool,
    typer.Option("--evidence", help="Go by what fires together too: edges from threshold_low on that do."),
]
FromLayer = Annotated[int | None, typer.Argument(metavar="LAYER_A", help="First layer.  [default: all]")]
ToLayer = Annotated[int | None, typer.Argument(metavar="LAYER_B", help="Last layer.  [default: all]")]
ScoreOption = Annotated[
    Literal["product", "sum", "min"],
    typer.Option("--by", help="What a path scores: product, sum or least of its cosines."),
]
WritersOption = Annotated[
    bool, typer.Option("--writers/--no-writers", help="Add the mlp and att features that write each member.")
]
WriterMinOption = Annotated[
    float, typer.Option(min=-1, max=1, metavar="COSINE", help="Smallest cosine of a writer.")
]


def layer_range(text: str) -> tuple[int, int]:
    """Return the first and last layer of `3-7` or `3`.

    Raises UsageError: it is neither.
    """
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if found is None:
        raise UsageError(f"{text!r} is not a range of layers; write --layers 3-7 or --layers 3")
    first, last = int(found[1]), int(found[2] or found[1])
    if first > last:
        raise UsageError(f"{text!r} ends before it begins; write --layers {last}-{first}")
    return first, last


def parameters(given: list[str] | None) -> dict[str, str]:
    """Return `name=value` options as a dictionary.

    Raises UsageError: an option without `=`, or the same name twice.
    """
    found: dict[str, str] = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"{text!r} is not a parameter; write -p name=value")
        if name in found:
            raise UsageError(f"parameter {name!r} is given twice, as {found[name]!r} and {value!r}")
        found[name] = value
    return found

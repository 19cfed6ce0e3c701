"""The arguments and options that commands share, and their completion in a shell."""

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
Key = Annotated[str, typer.Argument(metavar="KEY", help="The feature, as layer/site/index: 3/res/346.")]
UpstreamKey = Annotated[str, typer.Argument(metavar="A", help="The feature where paths begin.")]
DownstreamKey = Annotated[str, typer.Argument(metavar="B", help="The feature where paths end.")]
OptionalKey = Annotated[
    str | None, typer.Argument(metavar="KEY", help="The feature, as layer/site/index: 3/res/346.")
]
WeightedKeys = Annotated[
    list[str],
    typer.Argument(metavar="FEATURE...", help="Features as layer/site/index, with =WEIGHT if that is not 1."),
]
RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="A shipped recipe, or the path of a .toml file.", autocompletion=_recipe_names
    ),
]
WidthOption = Annotated[
    str | None,
    typer.Option(metavar="WIDTH", help="Width of the SAEs, such as 65k.  [default: the recipe's]"),
]
TokensOption = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Most tokens to read.  [default: the recipe's]")
]
TextOption = Annotated[
    str | None,
    typer.Option(
        metavar="PATH", help="A file, a folder, or the id of a dataset to read.  [default: the recipe's]"
    ),
]
QueryName = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="A shipped query, or the path of a .sql file.", autocompletion=_query_names
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
    typer.Option("--format", help="Output format.  [default: by the name of -o, or table]"),
]
OutOption = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to a file instead of stdout.")
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        min=0, metavar="N", help="Most rows to write, 0 for all.  [default: all, or what fits the screen]"
    ),
]
ParameterOption = Annotated[
    list[str] | None,
    typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="Value of $NAME; repeat for more."),
]
TimeoutOption = Annotated[
    float, typer.Option(min=0, metavar="SECONDS", help="Stop after this many seconds, 0 for no limit.")
]
MemoryOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Most memory of a statement, such as 8GB.  [default: a quarter of the machine, at most 4GB]",
    ),
]
MaxRowsOption = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="N",
        help="Most rows of an answer, and most paths of a repeated edge, 0 for no limit.",
    ),
]
MinOption = Annotated[
    float | None,
    typer.Option(
        "--min",
        metavar="VALUE",
        help="Least value of a residual edge, in the measure's unit.  [default: each SAE's threshold]",
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
HopsOption = Annotated[
    int | None,
    typer.Option(min=0, metavar="N", help="Most edges to follow in each direction.  [default: all]"),
]
LayerOption = Annotated[int | None, typer.Option(metavar="LAYER", help="Only this layer.  [default: all]")]
ByOption = Annotated[
    str,
    typer.Option(
        "--by",
        metavar="MEASURE",
        help="Measure of edges to go by: cosine, coactive, twera, attribution, effect, ...",
    ),
]
FromLayer = Annotated[
    int | None, typer.Argument(metavar="LAYER_A", help="First layer.  [default: the lowest]")
]
ToLayer = Annotated[int | None, typer.Argument(metavar="LAYER_B", help="Last layer.  [default: the highest]")]
ScoreOption = Annotated[
    Literal["product", "sum", "min"],
    typer.Option("--score", help="Score of a path: product, sum or minimum of the measure."),
]
WritersOption = Annotated[
    bool,
    typer.Option("--writers/--no-writers", help="Include the mlp and att features that write each member."),
]
WriterMinOption = Annotated[
    float, typer.Option(min=-1, max=1, metavar="COSINE", help="Least cosine of a writer's edge.")
]


def memory_size(text: str | None) -> int | None:
    """Return the bytes of `8GB` or `500MB`.

    Raises UsageError: it is no size.
    """
    if text is None:
        return None
    given = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)\s*([KMGT])i?B?", text.strip(), re.IGNORECASE)
    size = float(given[1]) * 1000 ** ("KMGT".index(given[2].upper()) + 1) if given else 0
    if not 16_000_000 <= size <= 10**16:
        raise UsageError(f"{text!r} is no size of memory; write --memory 8GB, and no less than 16MB")
    return int(size)


def layer_range(text: str) -> tuple[int, int]:
    """Return the first and last layer of `3-7` or `3`.

    Raises UsageError: it is neither.
    """
    range = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if range is None:
        raise UsageError(f"{text!r} is not a range of layers; write --layers 3-7 or --layers 3")
    first, last = int(range[1]), int(range[2] or range[1])
    if first > last:
        raise UsageError(f"{text!r} ends before it begins; write --layers {last}-{first}")
    return first, last


def parameters(given: list[str] | None) -> dict[str, str]:
    """Return `name=value` options as a dictionary.

    Raises UsageError: an option without `=`, or the same name twice.
    """
    values: dict[str, str] = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"{text!r} is not a parameter; write -p name=value")
        if name in values:
            raise UsageError(f"parameter {name!r} is given twice, as {values[name]!r} and {value!r}")
        values[name] = value
    return values

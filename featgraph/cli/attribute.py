"""The command that links a feature to features of any layer and to logits: attribute."""

from typing import Annotated, Any

import typer

from featgraph import output
from featgraph.cli import options
from featgraph.cli.app import command
from featgraph.errors import UsageError

Features = Annotated[
    list[str], typer.Argument(metavar="FEATURE...", help="Features as layer/site/index: 5/res/985.")
]
LogitsOption = Annotated[
    bool, typer.Option("--to-logits", help="Logits that the features change, instead of their causes.")
]
SampleTokensOption = Annotated[
    int, typer.Option(min=1, metavar="N", help="Most tokens per feature, one from each row of text.")
]
TopOption = Annotated[int, typer.Option(min=1, metavar="N", help="Rows per feature.")]
FrozenOption = Annotated[
    bool, typer.Option("--frozen", help="Hold norms' scales and attention patterns constant.")
]
WriteOption = Annotated[
    bool, typer.Option("--write", help="Keep the rows in the graph, as edges of kind far.")
]
ReadOption = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Most tokens of the text to read.  [default: the recipe's]"),
]
SeedOption = Annotated[int, typer.Option(min=0, metavar="N", help="Seed of the random choice of tokens.")]


@command("attribute demo.featgraph 5/res/985 --top 10")
def attribute(
    graph: options.GraphPath,
    features: Features,
    to_logits: LogitsOption = False,
    tokens: SampleTokensOption = 64,
    top: TopOption = 20,
    frozen: FrozenOption = False,
    write: WriteOption = False,
    text: options.TextOption = None,
    read: ReadOption = None,
    seed: SeedOption = 0,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
    quiet: options.QuietOption = False,
) -> None:
    """Find what carries a feature from any layer below, or its logits.

    By gradient times activation: attribution is the share of the feature's activation that an upstream
    feature carries, from the same and all earlier tokens, averaged over tokens on which the feature fires;
    same_token is the part from the same token. With --write, patterns walk the result:
    MATCH (a)-[e:far]->(b) RETURN a.key, e.attribution.
    """
    if to_logits and write:
        raise UsageError("--to-logits gives no edges to --write; leave one of the two out")
    from featgraph import ablation
    from featgraph.core.progress import shown

    with shown(quiet) as progress:
        settings: dict[str, Any] = {
            "tokens": tokens,
            "top": top,
            "frozen": frozen,
            "text": text,
            "read": read,
            "seed": seed,
        }
        if to_logits:
            result = ablation.attribute_logits(graph, features, progress=progress, **settings)
        else:
            result = ablation.attribute(graph, features, write=write, progress=progress, **settings)
    output.write(result, format, out=out, limit=limit)
    if write:
        output.note(f"wrote edges of kind far to {graph}")

"""The commands that find features: find, and activate for those active on a text."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

import featgraph
from featgraph import output
from featgraph.cli import options
from featgraph.cli.app import command
from featgraph.core.progress import shown
from featgraph.errors import UsageError

Label = Annotated[
    str | None,
    typer.Option(metavar="WORDS", help="By label: features whose labels have all the words, see search."),
]
Near = Annotated[
    str | None, typer.Option(metavar="KEY", help="By direction: the features nearest to this one.")
]
Vector = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="By direction: the features nearest to a vector, .npy, .json or .safetensors."
    ),
]
Positive = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="By contrast: features more active on these prompts, one a line, ..."),
]
Negative = Annotated[Path | None, typer.Option(metavar="FILE", help="... than on these.")]
HowMany = Annotated[int, typer.Option("--k", "-k", min=1, metavar="K", help="How many features.")]
Site = Annotated[
    Literal["att", "mlp", "res"] | None, typer.Option(help="Only features of this site.  [default: all]")
]
Layers = Annotated[
    str | None, typer.Option(metavar="FIRST-LAST", help="Only features of these layers.  [default: all]")
]
MinDensity = Annotated[
    float | None,
    typer.Option(min=0, max=1, metavar="SHARE", help="Only features active on this share of tokens or more."),
]
MaxDensity = Annotated[
    float | None,
    typer.Option(min=0, max=1, metavar="SHARE", help="Only features active on this share of tokens or less."),
]
MinFiring = Annotated[
    float,
    typer.Option(
        min=0, max=1, metavar="SHARE", help="In a contrast: least share of prompts with the feature active."
    ),
]
Screen = Annotated[
    bool,
    typer.Option(
        "--screen",
        help="Sort by output score: do a feature's tokens come up if it is amplified? Runs the model.",
    ),
]
MinScore = Annotated[
    float | None,
    typer.Option(min=0, max=1, metavar="S", help="Screen, and keep features with this output score or more."),
]
Text = Annotated[str, typer.Argument(metavar="TEXT", help="The text, - for stdin.")]
Lineages = Annotated[
    bool, typer.Option("--lineages", help="List lineages with two or more features active on one token.")
]
Picture = Annotated[
    bool, typer.Option("--picture", help="Draw tokens by layers, with a letter for each lineage.")
]
ActiveSite = Annotated[Literal["att", "mlp", "res", "all"], typer.Option(help="Only features of this site.")]
PerToken = Annotated[
    int,
    typer.Option("--per-token", "-k", min=1, metavar="K", help="Most features, or lineages, of each token."),
]
MinShare = Annotated[
    float,
    typer.Option(
        min=0, max=1, metavar="SHARE", help="Least activation, as a share of the feature's largest."
    ),
]


@command("find demo.featgraph --label scared --max-density 0.05 --screen")
def find(
    graph: options.GraphPath,
    label: Label = None,
    near: Near = None,
    vector: Vector = None,
    positive: Positive = None,
    negative: Negative = None,
    k: HowMany = 20,
    site: Site = None,
    layers: Layers = None,
    min_density: MinDensity = None,
    max_density: MaxDensity = None,
    min_firing: MinFiring = 0.1,
    screen: Screen = False,
    min_s_out: MinScore = None,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
    quiet: options.QuietOption = False,
) -> None:
    """Find features by label, direction, or contrast of prompts.

    Give exactly one of --label, --near, --vector, or --positive with --negative. A contrast runs the model:
    the score is the difference of mean activations over their standard deviation, and a prompt's activation
    is the largest over its tokens. Compare output scores within one SAE only.
    """
    from featgraph.features import read_prompts
    from featgraph.query.similar import read_vector

    if positive is not None and positive == negative:
        raise UsageError(f"--positive and --negative are both {positive}; give two files")
    runs = positive is not None or screen or min_s_out is not None
    with featgraph.open(graph) as opened, shown(quiet or not runs) as progress:
        result = opened.find(
            label=label,
            near=near,
            vector=None if vector is None else read_vector(vector),
            positive=None if positive is None else read_prompts(positive),
            negative=None if negative is None else read_prompts(negative),
            k=k,
            site=site,
            layers=None if layers is None else options.layer_range(layers),
            min_density=min_density,
            max_density=max_density,
            min_firing=min_firing,
            screen=screen,
            min_s_out=min_s_out,
            progress=progress,
        )
        output.write(result, format, out=out, limit=limit, store=opened.store)


@command('activate demo.featgraph "Once upon a time there was a little dog who was scared" --picture')
def activate(
    graph: options.GraphPath,
    text: Text,
    lineages: Lineages = False,
    picture: Picture = False,
    site: ActiveSite = "res",
    layers: Layers = None,
    k: PerToken = 3,
    min_share: MinShare = 0.2,
    max_density: MaxDensity = None,
    min: options.MinOption = None,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
    quiet: options.QuietOption = False,
) -> None:
    """Show which features and lineages are active on a text.

    Token by token, strongest first. The share is the activation over the feature's largest one on the graph's
    text. A lineage joins features active on one token to their best parents. As svg, png or html: tokens by
    layers, with the strongest lineages in colour.
    """
    from featgraph import features

    if picture and (lineages or format is not None or limit is not None):
        raise UsageError("--picture takes none of --lineages, --format and --limit")
    if lineages and site not in ("res", "all"):
        raise UsageError(f"--lineages needs residual features, not --site {site}")
    feature_filter = features.FeatureFilter(
        None if site == "all" else site,
        None if layers is None else options.layer_range(layers),
        max_density=max_density,
    )
    drawn = not picture and output.format_of(format, out) in output.PICTURES
    text = sys.stdin.read() if text == "-" else text
    with featgraph.open(graph) as opened:
        with shown(quiet) as progress:
            active = features.active_features(
                opened.store, text, feature_filter=feature_filter, min_share=min_share, progress=progress
            )
        if picture:
            from featgraph.output.activation_picture import write_picture

            write_picture(active, features.find_active_lineages(opened.store, active, min=min), out=out)
            return
        if drawn:
            from featgraph.output.pictures import lens_picture

            active_lineages = features.find_active_lineages(opened.store, active, min=min)
            output.write_picture(lens_picture(opened.store, text, active, active_lineages), format, out=out)
            return
        if lineages:
            found = features.find_active_lineages(opened.store, active, min=min)
            result = features.lineage_rows(opened.store, active, found, k)
        else:
            result = active.result(opened.store, k)
        output.write(result, format, out=out, limit=limit, store=opened.store)

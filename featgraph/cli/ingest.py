"""The commands that build a graph: recipes, recipe, ingest."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from featgraph import output
from featgraph.cli import options
from featgraph.cli.app import command
from featgraph.errors import UsageError
from featgraph.output.format import Format, format_of

if TYPE_CHECKING:
    from featgraph.ingestion import Summary
    from featgraph.recipe import Recipe


@command("recipes")
def recipes(
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
) -> None:
    """List the shipped recipes, and the resources each needs.

    At the usual width: download of model and SAEs, disk while building, least memory. For another width, and
    in detail, use `featgraph ingest NAME --dry-run`.
    """
    from featgraph.suite import preview

    people = format_of(format, out) == "table"
    output.write(preview.shipped_recipes(people=people), format, out=out, limit=limit)


ForceOption = Annotated[
    bool, typer.Option("--force", help="Drop labels and ablations that the new graph cannot take over.")
]


@command("ingest demo -o demo.featgraph")
def ingest(
    recipe: options.RecipeName,
    out: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="GRAPH", help="The graph directory.  [default: NAME.featgraph]"
        ),
    ] = None,
    width: options.WidthOption = None,
    tokens: options.TokensOption = None,
    text: options.TextOption = None,
    data_free: Annotated[
        bool, typer.Option("--data-free", help="Use decoder directions alone: read no text, run no model.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Look up every SAE, print the resources needed, and stop.")
    ] = False,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="Run the steps on this machine, or on a Ray cluster.")
    ] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="With --engine ray: the cluster to use.  [default: start one]"),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Repeat the steps that an interrupted ingest has finished.")
    ] = False,
    force: ForceOption = False,
    format: options.FormatOption = None,
    quiet: options.QuietOption = False,
) -> None:
    """Build the feature graph of a model and its SAEs.

    An existing graph is replaced once the new one is complete; its labels and ablations are taken over where
    the features are the same. An interrupted ingest resumes when the same command is given again.
    """
    from featgraph.recipe import find_recipe

    if data_free and (tokens is not None or text is not None):
        raise UsageError("--data-free reads no text, so it goes with neither --text nor --tokens")
    if ray_address is not None and engine != "ray":
        raise UsageError("--ray-address needs --engine ray")
    chosen = find_recipe(recipe).changed(width=width, text=text, tokens=tokens, data_free=data_free)
    target = _target(out, chosen)
    if dry_run:
        _dry_run(chosen, target, format)
        return
    if format is not None:
        raise UsageError("--format needs --dry-run; an ingest prints the path of its graph")
    from featgraph.core.progress import shown
    from featgraph.ingestion import ingest as build

    with shown(quiet) as progress:
        made = build(
            chosen, target, progress, engine=engine, ray_address=ray_address, fresh=fresh, force=force
        )
    if not quiet:
        _tell(made)
    output.write_text(str(made.path))


def _target(out: Path | None, recipe: "Recipe") -> Path:
    """Return where the graph goes; raise StoreError, before any work, where none can be."""
    from featgraph.store import check_target

    target = (out or Path(f"{recipe.name}.featgraph")).expanduser()
    check_target(target)
    return target


def _dry_run(recipe: "Recipe", out: Path, format: Format | None) -> None:
    from featgraph.query.overview import Section, joined
    from featgraph.suite import preview
    from featgraph.suite.advice import impossible_edges

    people = format_of(format, None) == "table"
    sites, totals, needs = preview.dry_run(recipe, people=people)
    if people:
        output.write(sites, "table")
        output.write(totals, "table")
    else:
        output.write(joined([Section("sites", sites), Section("totals", totals)]), format)
    for line in [
        *impossible_edges(recipe),
        *preview.other_models(recipe),
        *preview.shortages(needs, out),
    ]:
        output.note(line)
    output.note(f"nothing was fetched or written; without --dry-run this builds {out}")


def _tell(made: "Summary") -> None:
    if made.n_resumed:
        output.note(f"{made.n_resumed} steps were finished before")
    source = f"{made.n_tokens:,} tokens" if made.n_tokens else "directions alone, without a text"
    output.note(f"{made.features:,} features and {made.edges:,} edges from {source}")
    for phrase in made.dropped:
        output.note(f"dropped: {phrase}")
    for warning in made.warnings:
        output.note(f"warning: {warning}")
    low, high = made.thresholds
    by = f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
    counts = ", ".join(f"{getattr(made, name):,} {name}" for name in ("births", "deaths", "splits", "merges"))
    evident = ", ".join(f"{count:,} {name}" for name, count in made.with_evidence.items())
    output.note(
        f"by decoder cosine >= {by} alone: {counts}; "
        + (f"of edges whose ends also fire together: {evident}; " if evident else "")
        + f"`featgraph run {made.path} persistence` shows them over a range of thresholds"
    )
    output.note(
        f"next: `featgraph info {made.path}`, or `featgraph lineage {made.path} KEY` with a KEY from "
        f"`featgraph run {made.path} stable-features`"
    )


@command("recipe init google/gemma-2-2b --release gemma-scope-2b-pt-res-canonical -o mine.toml")
def recipe(
    action: Annotated[Literal["init"], typer.Argument(metavar="init", help="Write a new recipe.")],
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A Hugging Face id, or the folder of a model.")
    ],
    release: Annotated[
        list[str] | None,
        typer.Option(metavar="R", help="A release in sae_lens's registry; repeat for more sites."),
    ] = None,
    saes: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A folder of your own SAEs, one folder each.")
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(metavar="PLACE", help="The text to read: a file, a folder or a Hugging Face dataset."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="The recipe file.  [default: MODEL.toml]"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a recipe for a model, to read and edit.

    Without --release it takes the releases that cover most layers; the file names the others.
    """
    from featgraph.suite import new_recipe
    from featgraph.suite.advice import impossible_edges, sae_layers

    path = out or Path(f"{new_recipe.short_name(model)}.toml")
    written = new_recipe.write_recipe(model, path, releases=release or [], saes=saes, text=text, force=force)
    output.note(f"wrote {written.file}: {written.layers} layers, SAEs: {sae_layers(written)}")
    for line in impossible_edges(written):
        output.note(line)
    output.note(f"next: read it, then `featgraph ingest {written.file} --dry-run`")
    output.write_text(str(written.file))

"""The command that generates steered text: steer."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import featgraph
from featgraph import output
from featgraph.cli import options
from featgraph.cli.app import command
from featgraph.cli.steering_options import weighted, with_settings
from featgraph.core.result import Result
from featgraph.errors import UsageError
from featgraph.output.format import PLAIN

if TYPE_CHECKING:
    from featgraph.steering import SteeringVector
    from featgraph.steering.compare import Compared
    from featgraph.steering.generate import Generation
    from featgraph.suite import LanguageModel

_TYPES = {
    "prompt": "VARCHAR",
    "sample": "INTEGER",
    "scale": "DOUBLE",
    "baseline": "VARCHAR",
    "steered": "VARCHAR",
}

OptionalGraph = Annotated[
    Path | None, typer.Argument(metavar="GRAPH", help="The graph directory; with --plan, where it is now.")
]
OptionalKeys = Annotated[
    list[str] | None,
    typer.Argument(metavar="FEATURE...", help="Features as layer/site/index, with =WEIGHT if that is not 1."),
]
Prompts = Annotated[
    list[str] | None,
    typer.Option("--prompt", metavar="TEXT", help="Beginning of the text, - for stdin; repeat for more."),
]
Samples = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Texts per prompt and scale.  [default: 2]")
]
Seed = Annotated[int | None, typer.Option(min=0, metavar="N", help="Seed of the first sample.  [default: 0]")]
MaxTokens = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Most tokens to generate.  [default: 48]")
]
Temperature = Annotated[
    float | None,
    typer.Option(min=0, metavar="T", help="Sampling temperature; 0: the likeliest token.  [default: 0.8]"),
]
TopP = Annotated[
    float | None,
    typer.Option(
        metavar="P", help="Sample from the likeliest tokens up to this probability.  [default: 0.95]"
    ),
]
Sweep = Annotated[
    str | None, typer.Option(metavar="S,S,...", help="Several scales in turn, instead of --scale.")
]
Save = Annotated[Path | None, typer.Option(metavar="FILE", help="Write a plan: vectors, settings, prompts.")]
Plan = Annotated[Path | None, typer.Option(metavar="FILE", help="Generate from a plan.")]


@command('steer demo.featgraph 3/res/346 --where cumulative --unit residual --scale 0.05 --prompt "One day"')
@with_settings
def steer(
    graph: OptionalGraph = None,
    features: OptionalKeys = None,
    prompts: Prompts = None,
    samples: Samples = None,
    seed: Seed = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    sweep: Sweep = None,
    save: Save = None,
    plan: Plan = None,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
    *,
    settings: Any,
) -> None:
    """Generate text with and without steering, side by side."""
    said = given(samples=samples, seed=seed, max_tokens=max_tokens, temperature=temperature, top_p=top_p)
    wanted = [sys.stdin.read().removesuffix("\n") if prompt == "-" else prompt for prompt in prompts or []]
    from featgraph.steering.compare import compare
    from featgraph.steering.generate import Generation

    if plan is not None:
        _check_plan_alone(features, settings, sweep)
        model, vectors, planned, generation = _from_plan(plan, graph)
        wanted, generation = wanted or planned, replace(generation, **said)
    else:
        scales = [settings["scale"]] if sweep is None else numbers("--sweep", sweep)
        if save is not None and len(scales) > 1:
            raise UsageError("a plan holds one scale; leave out --sweep or --save")
        generation = Generation(**said)
        model, vectors = _from_graph(graph, features, settings, scales)
    if not wanted:
        raise UsageError("say how the text begins: --prompt TEXT")
    rows = compare(model, vectors, wanted, generation)
    if save is not None:
        _save(save, vectors, wanted, generation)
    _write(rows, format, out, limit)


def given(**values: Any) -> dict[str, Any]:
    """Return the options that were set."""
    return {name: value for name, value in values.items() if value is not None}


def numbers(option: str, text: str) -> list[float]:
    """Return the numbers of `0,0.5,1`.

    Raises UsageError: one of them is none.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(
            f"{text!r} is not a list of numbers; write {option} 0,0.5,1 with commas and no blanks"
        ) from error


def _check_plan_alone(features: list[str] | None, settings: dict[str, Any], sweep: str | None) -> None:
    from featgraph.steering import Settings

    changed = [name for name, value in vars(Settings()).items() if settings[name] != value]
    changed += ["sweep"] if sweep is not None else []
    if features:
        raise UsageError(f"a plan has its features; leave out {features[0]!r} or --plan")
    if changed:
        raise UsageError(f"a plan has its settings; leave out --{changed[0]} or --plan")


def _from_graph(
    graph: Path | None, features: list[str] | None, settings: dict[str, Any], scales: Sequence[float]
) -> "tuple[LanguageModel, dict[float, SteeringVector | None]]":
    from featgraph.steering import Settings
    from featgraph.steering.compare import sweep
    from featgraph.suite.graph_suite import GraphSuite

    if graph is None or not features:
        raise UsageError("steer needs a graph and features, such as demo.featgraph 3/res/346, or --plan FILE")
    with featgraph.open(graph) as opened:
        suite = GraphSuite(opened.store)
        vectors = sweep(opened.store, weighted(features), Settings(**settings), scales, suite)
    return suite.model, vectors


def _from_plan(
    plan: Path, graph: Path | None
) -> "tuple[LanguageModel, dict[float, SteeringVector | None], list[str], Generation]":
    from featgraph import export
    from featgraph.steering.compare import read_generation

    vector = export.read_plan(plan, graph)
    prompts, generation = read_generation(export.read_extra(plan, "generation"), plan)
    if vector.suite is None:
        raise UsageError(f"the graph of the plan {plan} is gone; say where it is: steer GRAPH --plan {plan}")
    model = vector.suite.model
    vector.check_model(model)
    return model, {vector.settings.scale: vector}, prompts, generation


def _save(
    path: Path,
    vectors: "dict[float, SteeringVector | None]",
    prompts: Sequence[str],
    generation: "Generation",
) -> None:
    from featgraph import export
    from featgraph.steering.compare import described

    [vector] = vectors.values()
    if vector is None:
        raise UsageError("at scale 0 there is nothing to save; choose another --scale")
    export.write(vector, path, "json", extra={"generation": described(prompts, generation)})
    output.note(f"wrote the plan {path}; `featgraph steer --plan {path}` generates the same text")


def _write(
    rows: "Sequence[Compared]", format: output.Format | None, out: Path | None, limit: int | None
) -> None:
    """Write texts side by side for people, rows for programs."""
    if format is not None or (out is not None and out.suffix not in PLAIN):
        values = [tuple(vars(row).values()) for row in rows]
        output.write(Result.of(_TYPES, values), format, out=out, limit=limit)
        return
    from featgraph.output.side_by_side import Framed, write_texts

    groups = []
    by_sample: dict[tuple[str, int], list[Compared]] = {}
    for row in rows:
        by_sample.setdefault((row.prompt, row.sample), []).append(row)
    for (prompt, sample), together in by_sample.items():
        texts = [
            Framed("baseline", prompt, together[0].baseline),
            *(Framed(f"scale {row.scale:g}", prompt, row.steered) for row in together),
        ]
        groups.append((f"sample {sample}", texts))
    write_texts(groups, out=out)

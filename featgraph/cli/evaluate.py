"""The command that measures steering: evaluate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import featgraph
from featgraph import output
from featgraph.cli import options
from featgraph.cli.app import command
from featgraph.cli.steer import MaxTokens, Seed, Temperature, TopP, given, numbers
from featgraph.cli.steering_options import weighted, with_settings
from featgraph.errors import UsageError

if TYPE_CHECKING:
    from featgraph.evaluation import Judge

_SHOWN = 12
"""Keywords named in the note at the end; the others are counted."""

What = Annotated[Literal["steering"], typer.Argument(metavar="steering", help="What is evaluated.")]
PromptsFile = Annotated[
    Path | None,
    typer.Option("--prompts", metavar="FILE", help="One prompt a line.  [default: 24 neutral ones]"),
]
Scales = Annotated[
    str, typer.Option(metavar="S,S,...", help="Scales to choose one from, instead of --scale.")
]
Goal = Annotated[
    Literal["promote", "suppress"] | None,
    typer.Option(help="Direction of change wanted.  [default: suppress for rescale and ablate]"),
]
Seeds = Annotated[int, typer.Option(min=1, metavar="N", help="Texts per prompt, 3 or more.")]
Keywords = Annotated[
    str | None,
    typer.Option(metavar="WORD,WORD,...", help="Words that show the theme.  [default: the features' tokens]"),
]
JudgeUrl = Annotated[
    str | None, typer.Option(metavar="URL", help="Address of an LLM judge, OpenAI-compatible, up to /v1.")
]
JudgeModel = Annotated[str | None, typer.Option(metavar="NAME", help="The judge's model.")]
JudgeKey = Annotated[
    str | None, typer.Option(metavar="VAR", help="The environment variable that holds the judge's key.")
]
JudgeAbout = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="The theme, for the judge.  [default: labels and keywords]"),
]
Plot = Annotated[
    Path | None, typer.Option(metavar="FILE.png", help="Draw a picture too; needs featgraph[plot].")
]


@command("evaluate steering demo.featgraph 3/res/346 --where cumulative --unit residual --sweep 0,0.02,0.05")
@with_settings
def evaluate(
    what: What,
    graph: options.GraphPath,
    features: options.WeightedKeys,
    prompts: PromptsFile = None,
    sweep: Scales = "0,0.5,1,2",
    goal: Goal = None,
    seeds: Seeds = 3,
    seed: Seed = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    keywords: Keywords = None,
    judge_url: JudgeUrl = None,
    judge_model: JudgeModel = None,
    judge_key_env: JudgeKey = None,
    judge_about: JudgeAbout = None,
    plot: Plot = None,
    quiet: options.QuietOption = False,
    format: options.FormatOption = None,
    out: options.OutOption = None,
    limit: options.LimitOption = None,
    *,
    settings: Any,
) -> None:
    """Measure steering on prompts, against controls.

    Half of the prompts choose the scale, the other half measure it. Controls of the same strength: random
    directions, a lineage with shuffled edges, the features alone.
    """
    from featgraph import evaluation
    from featgraph.core.progress import shown
    from featgraph.core.text import pluralize
    from featgraph.evaluation import prompts as neutral
    from featgraph.steering import Settings
    from featgraph.steering.generate import Generation

    said = given(seed=seed, max_tokens=max_tokens, temperature=temperature, top_p=top_p)
    trial = evaluation.Trial(
        scales=numbers("--sweep", sweep),
        prompts=neutral.PROMPTS if prompts is None else neutral.read_prompts(prompts),
        generation=Generation(samples=seeds, **said),
        goal=goal or ("suppress" if settings["mode"] in ("rescale", "ablate") else "promote"),
        keywords=None if keywords is None else keywords.split(","),
        judge=_judge(judge_url, judge_model, judge_key_env, judge_about),
    )
    _check_plot(plot)
    with featgraph.open(graph) as opened, shown(quiet) as progress:
        found = evaluation.evaluate(opened.store, weighted(features), Settings(**settings), trial, progress)
    named, n_left = ", ".join(found.keywords[:_SHOWN]), len(found.keywords) - _SHOWN
    output.note(
        f"scale {found.scale:g} chosen; the theme: {pluralize(found.n_features, 'downstream feature')} "
        f"and the keywords {named}{f' and {n_left} more' if n_left > 0 else ''}"
    )
    if plot is not None:
        from featgraph.evaluation.drawing import draw

        draw(found, plot)
        output.note(f"wrote {plot}")
    output.write(found.rows, format, out=out, limit=limit)


def _judge(url: str | None, model: str | None, variable: str | None, about: str | None) -> "Judge | None":
    if url is None:
        for name, value in {"model": model, "key-env": variable, "about": about}.items():
            if value is not None:
                raise UsageError(f"--judge-{name} needs --judge-url, the judge's address")
        return None
    if model is None:
        raise UsageError("--judge-url needs --judge-model, the model to ask there")
    from featgraph.core.chat import Endpoint, key_from
    from featgraph.evaluation import Judge

    return Judge(Endpoint(url, model, key_from(variable)), about=about)


def _check_plot(plot: Path | None) -> None:
    """Raise UsageError before anything is measured: the plot could not be drawn, or not under this name."""
    if plot is None:
        return
    if plot.suffix.lower() != ".png":
        raise UsageError(f"the plot {str(plot)!r} is a PNG file; name it {plot.with_suffix('.png')}")
    from featgraph.evaluation.drawing import plotting

    plotting()

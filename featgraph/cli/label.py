"""The command that labels features: label."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from featgraph import output
from featgraph.cli import options
from featgraph.cli.app import command
from featgraph.errors import UsageError

if TYPE_CHECKING:
    from featgraph.labels import Endpoint, Labelled

Origin = Literal["neuronpedia", "csv", "tokens", "llm"]

_LLM = ("source", "base_url", "model", "api_key_env", "where", "limit", "concurrency", "timeout", "again")

_TAKES: Mapping[Origin, tuple[str, ...]] = {
    "neuronpedia": ("place", "layer", "site"),
    "csv": ("place", "source"),
    "tokens": (),
    "llm": _LLM,
}
"""The arguments and options that each origin takes, beside the graph."""

Place = Annotated[
    str | None,
    typer.Argument(metavar="PATH", help="neuronpedia: file, folder, glob or URL; csv: the table."),
]
From = Annotated[
    Origin | None,
    typer.Option("--from", help="Origin of the labels; csv also reads TSV, JSON Lines and Parquet."),
]
Layer = Annotated[
    int | None, typer.Option(metavar="LAYER", help="neuronpedia: layer of the SAE, if rows do not name it.")
]
Site = Annotated[str | None, typer.Option(metavar="SITE", help="neuronpedia: site of the SAE, likewise.")]
Source = Annotated[str | None, typer.Option(metavar="NAME", help="csv, llm: name of the source.")]
BaseUrl = Annotated[str | None, typer.Option(metavar="URL", help="llm: the server's address, up to /v1.")]
Model = Annotated[str | None, typer.Option(metavar="NAME", help="llm: the model to ask.")]
KeyVariable = Annotated[
    str | None, typer.Option(metavar="VAR", help="llm: the environment variable that holds the key.")
]
Where = Annotated[
    str | None,
    typer.Option(metavar="CONDITION", help='llm: which features, such as "layer = 5 and density > 0.01".'),
]
Limit = Annotated[int | None, typer.Option(min=1, metavar="N", help="llm: most features to ask about.")]
Concurrency = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="llm: requests at a time.  [default: 4]")
]
Timeout = Annotated[
    float | None,
    typer.Option(min=0.001, metavar="SECONDS", help="llm: longest wait for an answer.  [default: 60]"),
]
Again = Annotated[bool, typer.Option("--again", help="llm: include features that it has labelled before.")]


@command("label demo.featgraph --from tokens")
def label(
    graph: options.GraphPath,
    place: Place = None,
    origin: From = None,
    layer: Layer = None,
    site: Site = None,
    source: Source = None,
    base_url: BaseUrl = None,
    model: Model = None,
    api_key_env: KeyVariable = None,
    where: Where = None,
    limit: Limit = None,
    concurrency: Concurrency = None,
    timeout: Timeout = None,
    again: Again = False,
    quiet: options.QuietOption = False,
) -> None:
    """Label features: from Neuronpedia, a table, tokens or an LLM.

    A label replaces one of the same source and feature; all others stay.
    """
    given = {
        **{"place": place, "layer": layer, "site": site, "source": source, "base_url": base_url},
        **{"model": model, "api_key_env": api_key_env, "where": where, "limit": limit},
        **{"concurrency": concurrency, "timeout": timeout, "again": again or None},
    }
    chosen = _checked(origin, {name for name, value in given.items() if value is not None})
    from featgraph import labels
    from featgraph.core.progress import shown

    with shown(quiet) as progress:
        if chosen == "tokens":
            done = labels.from_tokens(graph, progress=progress)
        elif chosen == "csv":
            done = labels.from_table(graph, place or "", source=source)
        elif chosen == "neuronpedia":
            done = labels.from_neuronpedia(graph, place or "", layer=layer, site=site, progress=progress)
        else:
            endpoint = _endpoint(base_url or "", model or "", api_key_env, timeout)
            done = labels.from_llm(
                graph,
                endpoint,
                where=where,
                limit=limit,
                concurrency=concurrency or 4,
                again=again,
                source=source,
                progress=progress,
            )
    _tell(done)


def _tell(done: "Labelled") -> None:
    from featgraph.core.text import pluralize

    for added in done.added:
        features = pluralize(added.n_features, "feature")
        output.note(f"{pluralize(added.n, 'label')} of {features} from {added.source}")
    for sentence in done.left_out:
        output.note(f"left out: {sentence}")
    if not done.added:
        output.note("no new labels")


def _checked(origin: Origin | None, given: set[str]) -> Origin:
    """Return the origin; raise UsageError for an option that it does not take, or one that is missing."""
    if origin is None:
        raise UsageError(f"say where the labels come from: --from {', '.join(get_args(Origin))}")
    needed = {"neuronpedia": ["place"], "csv": ["place"], "tokens": [], "llm": ["base_url", "model"]}
    for name in sorted(given - set(_TAKES[origin])):
        raise UsageError(f"--from {origin} takes no {_shown(name)}")
    for name in needed[origin]:
        if name not in given:
            raise UsageError(f"--from {origin} needs {_shown(name)}")
    return origin


def _shown(name: str) -> str:
    return "PATH" if name == "place" else f"--{name.replace('_', '-')}"


def _endpoint(base_url: str, model: str, variable: str | None, timeout: float | None) -> "Endpoint":
    from featgraph.labels import Endpoint, RetryPolicy, key_from

    retry_policy = RetryPolicy() if timeout is None else RetryPolicy(timeout=timeout)
    return Endpoint(base_url, model, key_from(variable), retry_policy)

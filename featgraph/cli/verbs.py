"""One command per verb of the registry `core.verbs`: it prints what the verb answers.

`lineage` and `similar` have files of their own, because they take or print more than rows.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

import featgraph
from featgraph import output
from featgraph.cli import options
from featgraph.cli.app import Command, command
from featgraph.cli.signature import REQUIRED, Parameters, with_parameters
from featgraph.core.keys import MODULE_THRESHOLD
from featgraph.core.result import TIMEOUT
from featgraph.core.verbs import VERBS, Verb

ARGUMENTS: Parameters = {
    "f": (options.Key, REQUIRED),
    "a": (options.UpstreamKey, REQUIRED),
    "b": (options.DownstreamKey, REQUIRED),
    "words": (
        Annotated[
            str,
            typer.Argument(
                metavar="WORDS", help='Words of a label; those in "double quotes" follow each other.'
            ),
        ],
        REQUIRED,
    ),
    "layer_a": (options.FromLayer, None),
    "layer_b": (options.ToLayer, None),
    "k": (Annotated[int, typer.Option("-k", metavar="K", help="How many paths.")], 1),
    "min": (options.MinOption, None),
    "hops": (options.HopsOption, None),
    "writers": (options.WritersOption, True),
    "score": (options.ScoreOption, "product"),
    "writer_min": (options.WriterMinOption, MODULE_THRESHOLD),
    "layer": (options.LayerOption, None),
    "by": (options.ByOption, "cosine"),
    "source": (
        Annotated[
            str | None,
            typer.Option(
                metavar="NAME", help="Only labels of this source, such as neuronpedia.  [default: all]"
            ),
        ],
        None,
    ),
}
"""How the command line takes each argument: type, help and default."""

OWN_COMMANDS = ("lineage", "flow", "similar")
"""Verbs whose commands are not made here."""


def verb_command(name: str) -> Callable[[Command], Command]:
    """Add a function to the application as the command of a verb; its help is what the registry says."""
    verb = VERBS[name]
    text = f"{verb.summary}\n\n{verb.details}".strip()
    return command(f"{name} demo.featgraph {verb.example}", name=name, help=text)


def _printing(verb: Verb) -> Callable[..., None]:
    """Return a function that takes a verb's arguments and prints its rows."""

    def run(
        graph: options.GraphPath,
        arguments: dict[str, Any],
        format: options.FormatOption = None,
        out: options.OutOption = None,
        limit: options.LimitOption = None,
    ) -> None:
        timeout = arguments.pop("timeout", TIMEOUT)
        print_verb(graph, verb.name, arguments, format, out, limit, timeout)

    parameters = {name: taken for name, taken in ARGUMENTS.items() if name in verb.arguments}
    if not verb.computed:
        parameters["timeout"] = (options.TimeoutOption, TIMEOUT)
    return with_parameters(run, "arguments", parameters)


def print_verb(
    graph: Path,
    verb: str,
    arguments: dict[str, Any],
    format: output.Format | None,
    out: Path | None,
    limit: int | None,
    timeout: float = TIMEOUT,
) -> None:
    """Print the rows that a verb answers.

    timeout: seconds after which the statement is stopped, 0 for no limit.
    """
    from featgraph.query import run_verb

    with featgraph.open(graph) as opened:
        result = run_verb(opened.store, verb, arguments, timeout=timeout or None)
        output.write(result, format, out=out, limit=limit, store=opened.store)


for _verb in VERBS.values():
    if _verb.name not in OWN_COMMANDS:
        verb_command(_verb.name)(_printing(_verb))

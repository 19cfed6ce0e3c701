"""The command line, a projection of the library: each command opens a graph, calls one function and prints.

app               the Typer application; prints every error
ingest            the commands ingest, recipes and recipe
query             the commands query, queries, run and info
verbs             one command per verb
lineage           the command lineage
flow              the command flow
similar           the command similar
find              the commands find and activate
label             the command label
steer             the command steer
export            the command export
evaluate          the command evaluate
ablate            the command ablate
attribute         the command attribute
shell             the command shell
verify            the command verify
options           arguments and options that commands share
steering_options  the options of commands that steer
signature         adds options to a command's signature
cold_start        reads plain option values without pydantic

Exit codes: 0 ok, 1 query or data, 2 usage, 3 store, 4 source, 130 interrupted.
"""

import os
import sys
from contextlib import suppress

from featgraph.cli import (
    ablate,
    attribute,
    evaluate,
    export,
    find,
    flow,
    ingest,
    label,
    lineage,
    query,
    shell,
    similar,
    steer,
    verbs,
    verify,
)
from featgraph.cli.app import INTERRUPTED, app
from featgraph.core import limits

__all__ = [
    "ablate",
    "app",
    "attribute",
    "evaluate",
    "export",
    "find",
    "flow",
    "ingest",
    "label",
    "lineage",
    "main",
    "query",
    "shell",
    "similar",
    "steer",
    "verbs",
    "verify",
]


def main() -> None:
    """Run the command that `sys.argv` names."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    limits.own_process = True
    try:
        app(prog_name="featgraph")
    except SystemExit as end:
        if end.code != INTERRUPTED:
            raise
        # Files and connections are closed by now. CPython would end by the signal, not with exit code 130, if
        # the interrupt passed through code that a library evaluates while it is imported.
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(INTERRUPTED)

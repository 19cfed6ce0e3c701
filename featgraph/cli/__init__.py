"""The command line, a projection of the library: each command opens, calls and prints.

Exit codes: 0 ok, 1 query or data, 2 usage, 3 store, 4 source, 130 interrupted.
"""

import gc
import os
import sys
from contextlib import suppress

# A command lives for a moment: collecting garbage while modules load only delays it.
gc.set_threshold(50_000, 20, 20)

from featgraph.cli import (  # noqa: E402
    ablate,
    evaluate,
    export,
    find,
    ingest,
    label,
    query,
    shell,
    steer,
    verbs,
)
from featgraph.cli.app import INTERRUPTED, app  # noqa: E402

__all__ = [
    "ablate",
    "app",
    "evaluate",
    "export",
    "find",
    "ingest",
    "label",
    "main",
    "query",
    "shell",
    "steer",
    "verbs",
]


def main() -> None:
    """Run the command that `sys.argv` names."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="featgraph")
    except SystemExit as end:
        if end.code != INTERRUPTED:
            raise
        # All is cleaned up. CPython would end by the signal, not with our code, if the interrupt passed
        # through code that a library evaluates while it is imported.
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(INTERRUPTED)

"""The command line, a projection of the library: each command opens, calls and prints.

Exit codes: 0 ok, 1 query or data, 2 usage, 3 store, 4 source, 130 interrupted.
"""

import gc
import sys

# A command lives for a moment: collecting garbage while modules load takes a twentieth of its time.
gc.set_threshold(50_000, 20, 20)

from featgraph.cli import asking, making, verbs  # noqa: E402
from featgraph.cli.app import app  # noqa: E402

__all__ = ["app", "asking", "main", "making", "verbs"]


def main() -> None:
    """Run the command that `sys.argv` names."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="featgraph")

"""Where answers and talk go: stdout or a file that appears whole, and stderr."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from featgraph.core.files import output_file
from featgraph.errors import UsageError


@contextmanager
def opened(out: Path | None) -> Iterator[TextIO]:
    """Yield stdout, or a file that takes its name when all is written.

    Raises UsageError: stdout is closed, or the file cannot be written.
    """
    if sys.stdout is None and out is None:
        raise UsageError("stdout is closed; name a file with -o FILE")
    if out is None or str(out) == "-":
        yield sys.stdout
        sys.stdout.flush()
        return
    with output_file(out) as path, path.open("w", encoding="utf-8", newline="") as stream:
        yield stream


def note(message: str) -> None:
    """Say something to the person at the terminal, on stderr."""
    sys.stderr.write(f"featgraph: {message}\n")

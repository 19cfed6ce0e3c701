"""The streams: answers to stdout or to a file that appears whole, notes to stderr."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

from featgraph.core.files import output_file
from featgraph.core.text import visible
from featgraph.errors import UsageError


@contextmanager
def opened(out: Path | None) -> Iterator[TextIO]:
    """Yield stdout, or a file that takes its name once all is written.

    Raises UsageError: stdout is closed, or the file cannot be written.
    """
    if sys.stdout is None and out is None:
        raise UsageError("stdout is closed; name a file with -o FILE")
    if out is None or str(out) == "-":
        yield cast(TextIO, _Visible(sys.stdout)) if sys.stdout.isatty() else sys.stdout
        sys.stdout.flush()
        return
    with output_file(out) as path, path.open("w", encoding="utf-8", newline="") as stream:
        yield stream


def note(message: str) -> None:
    """Write a note for the person at the terminal, to stderr."""
    sys.stderr.write(f"featgraph: {visible(message)}\n")


class _Visible:
    """A terminal that gets text and no codes that it would obey: data may be from anywhere."""

    def __init__(self, terminal: TextIO) -> None:
        self.terminal = terminal

    def write(self, text: str) -> int:
        """Write text with what a terminal would obey made visible."""
        return self.terminal.write(visible(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.terminal, name)


def bare(stream: TextIO) -> TextIO:
    """Return the stream itself, for Rich, whose own colours are codes; what it is given is made printable."""
    return stream.terminal if isinstance(stream, _Visible) else stream

"""Texts side by side, each in a frame of its own; one below the other where the terminal is narrow."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from featgraph.output.streams import opened
from featgraph.output.table import console

NARROW = 80
"""Columns below which two texts are not put side by side."""

_ELSEWHERE = 110
"""Columns where there is no terminal."""


@dataclass(frozen=True)
class Framed:
    """One text: its title, the prompt, and the continuation."""

    title: str
    begin: str
    rest: str


def write_texts(
    groups: Sequence[tuple[str, Sequence[Framed]]], *, out: Path | None = None, width: int | None = None
) -> None:
    """Write groups of texts under a heading each.

    width: columns; left out, those of the terminal, or 110 elsewhere.

    Raises UsageError: the file cannot be written.
    """
    with opened(out) as stream:
        screen = console(stream, width or (None if stream.isatty() else _ELSEWHERE))
        for number, (heading, texts) in enumerate(groups):
            screen.print(Text("\n" * (number > 0) + heading))
            screen.print(_side_by_side(texts, 1 if screen.width < NARROW else 2))


def _side_by_side(texts: Sequence[Framed], n: int) -> Table:
    grid = Table.grid(expand=True)
    for _ in range(n):
        grid.add_column(ratio=1)
    frames = [
        Panel(
            Text.assemble((text.begin, "dim"), text.rest.rstrip()),
            title=Text(text.title),
            title_align="left",
        )
        for text in texts
    ]
    for first in range(0, len(frames), n):
        grid.add_row(*frames[first : first + n])
    return grid

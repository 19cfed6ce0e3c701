"""Rows as a Rich table, and the console that tables and trees are printed on."""

from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from featgraph.core.result import Result
from featgraph.core.text import cell, printable
from featgraph.output.streams import bare, note
from featgraph.output.values import types

_WIDE = 100_000
"""Columns where no terminal cuts a line."""

_GAP = 3
"""Blanks between two columns."""

_NARROW = 12
"""Text columns are not cut below this."""

_NUMERIC = ("BIGINT", "DOUBLE", "FLOAT", "HUGEINT", "INTEGER", "SMALLINT")


class PlainConsole(Console):
    """A console that prints text as it is, and leaves a closed pipe to its caller."""

    def on_broken_pipe(self) -> None:
        """Let the BrokenPipeError through."""
        raise


def console(stream: TextIO, width: int | None = None) -> Console:
    """Return a console; without a width it is as wide as the terminal, or as needed where there is none."""
    stream = bare(stream)
    if width is None and not stream.isatty():
        width = _WIDE
    return PlainConsole(file=stream, width=width, markup=False, highlight=False, emoji=False)


def write_table(result: Result, stream: TextIO) -> None:
    """Print rows as a table as wide as the terminal, or as needed elsewhere; note if columns were cut."""
    screen = console(stream)
    drawn, cut = table(result, screen.width)
    screen.print(drawn)
    if cut:
        note(f"columns are cut to fit {screen.width} characters; --format json shows them whole")


def table(result: Result, room: int) -> tuple[Table, bool]:
    """Return the rows as a table at most `room` characters wide, and whether anything was cut.

    The widest text columns are cut first, then whole columns are left out from the right; numbers stay whole.
    """
    rows = [[cell(value) for value in row] for row in result.rows]
    header = [printable(name) for name in result.columns]
    natural = [max(map(cell_len, column)) for column in zip(header, *rows, strict=True)]
    numeric = [kind in _NUMERIC for kind in types(result)]
    widths = _fitted(natural, numeric, room)
    drawn = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name, width, right in zip(header, widths, numeric, strict=False):
        drawn.add_column(_line(name), width=width, justify="right" if right else "left")
    for row in rows:
        drawn.add_row(*(_line(text) for text in row[: len(widths)]))
    return drawn, widths != natural


def _line(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")


def _fitted(natural: list[int], numeric: list[bool], room: int) -> list[int]:
    """Return the widths of the columns that fit, from the left.

    >>> _fitted([5, 30, 8, 20], [True, False, True, False], 50)
    [5, 14, 8, 14]
    >>> _fitted([5, 30, 8, 20], [True, False, True, False], 30)
    [5, 22]
    """
    least = [width if right else min(width, _NARROW) for width, right in zip(natural, numeric, strict=True)]
    n = len(least)
    while n > 1 and sum(least[:n]) + _GAP * (n - 1) > room:
        n -= 1
    widths = natural[:n]
    while sum(widths) + _GAP * (n - 1) > room:
        slack = [width - smallest for width, smallest in zip(widths, least, strict=False)]
        if not any(slack):
            break
        widest = max(range(n), key=lambda place: widths[place] if slack[place] else 0)
        widths[widest] -= 1
    return widths

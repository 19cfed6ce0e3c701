"""Rows as a Rich table, and the console that tables and trees are printed on."""

from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from featgraph.output.values import cell, types
from featgraph.query.result import Result

_WIDE = 100_000
"""Columns where no terminal cuts a line."""

_NUMERIC = ("BIGINT", "DOUBLE", "FLOAT", "HUGEINT", "INTEGER", "SMALLINT")


class PlainConsole(Console):
    """A console that prints text as it is, and leaves a closed pipe to its caller."""

    def on_broken_pipe(self) -> None:
        """Let the BrokenPipeError through."""
        raise


def console(stream: TextIO, width: int | None = None) -> Console:
    """Return a console; without a width it is as wide as the terminal, or as needed where there is none."""
    if width is None and not stream.isatty():
        width = _WIDE
    return PlainConsole(file=stream, width=width, markup=False, highlight=False, emoji=False)


def table(result: Result) -> Table:
    """Return the rows as a table, one line each; numbers stand to the right and are never cut."""
    drawn = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name, kind in zip(result.columns, types(result), strict=True):
        if kind in _NUMERIC:
            drawn.add_column(name, justify="right", no_wrap=True)
        else:  # may be cut to fit, the widest first
            drawn.add_column(Text(name, no_wrap=True, overflow="ellipsis"))
    for row in result.rows:
        drawn.add_row(*(Text(cell(value), no_wrap=True, overflow="ellipsis") for value in row))
    return drawn


def is_cut(console: Console, drawn: Table) -> bool:
    """Say whether the console is too narrow for the whole table."""
    return console.measure(drawn, options=console.options.update(width=_WIDE)).maximum > console.width

"""Writes results for people and programs: tables, rows, graphs, pictures, and lineages as trees.

format              chooses the output format
table               rows as a Rich table
rows                rows as JSON, JSON lines, CSV and Parquet
values              one value as JSON, CSV or a table shows it
tree                a lineage as a tree of text
graphs              edges, paths and lineages in the formats of graph tools
pictures            answers as SVG, PNG and HTML
activation_picture  the features active on a text, as text
side_by_side        texts next to each other
streams             stdout, files and stderr

Only this package writes to stdout; messages go to stderr through `note`. A file appears under its name only
when it is complete. Rich, pyarrow and networkx are imported by the formats that need them.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from featgraph.core.result import Result
from featgraph.output.format import PICTURES, PLAIN, Format, LineageFormat, format_of
from featgraph.output.rows import write_csv, write_json, write_jsonl, write_parquet, write_safe_csv
from featgraph.output.streams import note, opened

if TYPE_CHECKING:
    from featgraph.lineage.lineage import Lineage
    from featgraph.output.pictures import Picture
    from featgraph.query import Section
    from featgraph.store import Store

__all__ = [
    "PICTURES",
    "Format",
    "LineageFormat",
    "format_of",
    "note",
    "write",
    "write_lineage",
    "write_picture",
    "write_sections",
    "write_text",
    "write_tree",
]


def write(
    result: Result,
    format: Format | None = None,
    *,
    out: Path | None = None,
    limit: int | None = None,
    store: "Store | None" = None,
) -> None:
    """Write rows to stdout or a file, in the format asked for, else the one of the file's ending.

    limit: most rows written, 0 for all; left out, a table on a terminal stops where the screen ends.
    store: the graph that the rows are about; graph formats and pictures look up keys and labels in it.

    Raises UsageError: the file cannot be written, parquet or png would go to a terminal, or the rows make no
    graph or picture.
    """
    chosen = format_of(format, out)
    with opened(out) as stream:
        most = _screenful() if limit is None and chosen == "table" and stream.isatty() else limit
        shown = Result(result.columns, result.rows[:most], result.types) if most else result
        if chosen in _WRITERS:
            _WRITERS[chosen](shown, stream)
        elif chosen in PICTURES:
            from featgraph.output.pictures import picture_of, write_to

            write_to(stream, picture_of(shown, store), chosen)
        else:
            from featgraph.output.graphs.networkx import graph_of, write_graph

            write_graph(graph_of(shown, store), chosen, stream)
    if len(shown) < len(result):
        note(f"{len(shown):,} of {len(result):,} rows shown; --limit 0 shows all")
    elif not len(result) and (chosen == "table" or chosen not in _WRITERS):
        note("no rows")


def write_sections(
    sections: "list[Section]", format: Format | None = None, *, out: Path | None = None
) -> None:
    """Write titled results: as tables one below another, else as one result with a `section` column.

    Raises UsageError: the file cannot be written, or the format holds graphs.
    """
    chosen = format_of(format, out)
    if chosen != "table":
        from featgraph.query import joined

        write(joined(sections), chosen, out=out)
        return
    with opened(out) as stream:
        for number, section in enumerate(sections):
            stream.write("\n" * (number > 0) + section.title + "\n")
            _write_table(section.result, stream)


def write_text(text: str, *, out: Path | None = None) -> None:
    """Write text as it is, ending in one line break.

    Raises UsageError: the file cannot be written.
    """
    with opened(out) as stream:
        stream.write(text.rstrip("\n") + "\n")


def write_lineage(
    lineage: "Lineage",
    format: LineageFormat | None = None,
    *,
    out: Path | None = None,
    limit: int | None = None,
) -> None:
    """Write a lineage as a tree, as a graph, as a picture, or its members as rows.

    limit: most rows, or most features of a picture.

    Raises UsageError: the file cannot be written, or parquet or png would go to a terminal.
    """
    if format == "tree" or (format is None and (out is None or out.suffix.lower() in PLAIN)):
        write_tree(lineage, out=out)
        return
    chosen = format_of(format, out)
    if chosen in _WRITERS:
        write(lineage.member_rows(), chosen, out=out, limit=limit)
        return
    if chosen in PICTURES:
        from featgraph.output.pictures import lineage_picture

        write_picture(lineage_picture(lineage, limit), chosen, out=out)
        return
    from featgraph.output.graphs.networkx import lineage_graph, write_graph

    with opened(out) as stream:
        write_graph(lineage_graph(lineage), chosen, stream)


def write_picture(picture: "Picture", format: Format | None = None, *, out: Path | None = None) -> None:
    """Write a picture as svg, png or html, by the format asked for, else by the file's name.

    Raises UsageError: the file cannot be written, png would go to a terminal, or it cannot be made here.
    """
    from featgraph.output.pictures import write_to

    with opened(out) as stream:
        write_to(stream, picture, format_of(format, out))


def write_tree(lineage: "Lineage", *, out: Path | None = None, width: int | None = None) -> None:
    """Write a lineage as a tree: layers from first to last, their features, and below each its writers.

    width: columns; left out, those of the terminal, and as many as needed elsewhere.

    Raises UsageError: the file cannot be written.
    """
    from featgraph.output.tree import print_tree, tree

    with opened(out) as stream:
        print_tree(tree(lineage), stream, width)


def _screenful() -> int:
    """Return how many rows a terminal shows below the header and above the next prompt."""
    try:
        lines = os.get_terminal_size(sys.stdout.fileno()).lines
    except (OSError, ValueError):
        lines = 24
    return max(10, lines - 5)


def _write_table(result: Result, stream: TextIO) -> None:
    from featgraph.output.table import write_table

    write_table(result, stream)


_WRITERS: dict[Format, Callable[[Result, TextIO], None]] = {
    "table": _write_table,
    "json": write_json,
    "jsonl": write_jsonl,
    "csv": write_csv,
    "csv-safe": write_safe_csv,
    "parquet": write_parquet,
}

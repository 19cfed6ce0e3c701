"""Results to people and files: table, json, jsonl, csv, parquet, and a lineage as a tree.

The only writer to stdout; talk goes to stderr through `note`. A file appears under its name only when it
is complete. Rich and pyarrow are imported by the format that needs them.
"""

import csv
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO, get_args

from featgraph.errors import UsageError
from featgraph.files import complete_file
from featgraph.output.values import csv_cell, json_rows, types
from featgraph.query import Result, Section, joined

if TYPE_CHECKING:
    from featgraph.flow import Lineage

Format = Literal["table", "json", "jsonl", "csv", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)

_MEMBER_TYPES = {
    "id": "INTEGER",
    "key": "VARCHAR",
    "layer": "INTEGER",
    "site": "VARCHAR",
    "idx": "INTEGER",
    "distance": "INTEGER",
    "weight": "FLOAT",
    "density": "FLOAT",
    "label": "VARCHAR",
}


def write(
    result: Result, format: Format | None = None, *, out: Path | None = None, limit: int | None = None
) -> None:
    """Write rows to stdout or a file, in the format asked for, else the one that the file's name says.

    limit: most rows written, 0 for all; left out, a table on a terminal stops where the screen ends.

    Raises UsageError: the file cannot be written, or parquet would go to a terminal.
    """
    chosen = format or _format_of(out)
    with _opened(out) as stream:
        if chosen == "parquet" and stream.isatty():
            raise UsageError("parquet is binary and stdout is a terminal; name a file with -o FILE")
        most = _screenful() if limit is None and chosen == "table" and stream.isatty() else limit
        shown = Result(result.columns, result.rows[:most], result.types) if most else result
        _WRITERS[chosen](shown, stream)
    if len(shown) < len(result):
        note(f"{len(shown):,} of {len(result):,} rows shown; --limit 0 shows all")
    elif not len(result) and chosen == "table":
        note("no rows")


def write_sections(sections: list[Section], format: Format | None = None, *, out: Path | None = None) -> None:
    """Write titled results: as tables one below the other, else as one result with a `section` column.

    Raises UsageError: the file cannot be written.
    """
    chosen = format or _format_of(out)
    if chosen != "table":
        write(joined(sections), chosen, out=out)
        return
    with _opened(out) as stream:
        for number, section in enumerate(sections):
            stream.write("\n" * (number > 0) + section.title + "\n")
            _write_table(section.result, stream)


def write_text(text: str, *, out: Path | None = None) -> None:
    """Write text as it is, ending in one line break.

    Raises UsageError: the file cannot be written.
    """
    with _opened(out) as stream:
        stream.write(text.rstrip("\n") + "\n")


def write_lineage(
    lineage: "Lineage",
    format: Format | Literal["tree"] | None = None,
    *,
    out: Path | None = None,
    limit: int | None = None,
) -> None:
    """Write a lineage as a tree, or its members as rows in the format asked for.

    Raises UsageError: the file cannot be written, or parquet would go to a terminal.
    """
    named = out.suffix.removeprefix(".") if out else ""
    if format == "tree" or (format is None and named not in FORMATS):
        write_tree(lineage, out=out)
    else:
        rows: list[tuple[object, ...]] = [tuple(vars(member).values()) for member in lineage.members]
        write(Result(list(_MEMBER_TYPES), rows, list(_MEMBER_TYPES.values())), format, out=out, limit=limit)


def prepare_tree() -> None:
    """Start loading what draws a tree: it takes about as long as the database takes to answer."""
    names = ("featgraph.output.tree", "featgraph.output.table")
    threading.Thread(target=lambda: [import_module(name) for name in names], daemon=True).start()


def write_tree(lineage: "Lineage", *, out: Path | None = None, width: int | None = None) -> None:
    """Write a lineage as a tree: layers from first to last, their features, and below each its writers.

    width: columns; left out, those of the terminal, and as many as needed elsewhere.

    Raises UsageError: the file cannot be written.
    """
    from featgraph.output.table import console
    from featgraph.output.tree import tree

    with _opened(out) as stream:
        console(stream, width).print(tree(lineage))


def note(message: str) -> None:
    """Say something to the person at the terminal, on stderr."""
    sys.stderr.write(f"featgraph: {message}\n")


def _format_of(out: Path | None) -> Format:
    """Return the format that a file's name asks for, else `table`."""
    suffix = out.suffix.removeprefix(".") if out else ""
    return next((known for known in FORMATS if known == suffix), "table")


def _screenful() -> int:
    """Return how many rows a terminal shows below the header and above the next prompt."""
    try:
        lines = os.get_terminal_size(sys.stdout.fileno()).lines
    except (OSError, ValueError):
        lines = 24
    return max(10, lines - 5)


@contextmanager
def _opened(out: Path | None) -> Iterator[TextIO]:
    """Yield stdout, or a file that takes its name when all is written."""
    if sys.stdout is None and out is None:
        raise UsageError("stdout is closed; name a file with -o FILE")
    if out is None or str(out) == "-":
        yield sys.stdout
        sys.stdout.flush()
        return
    with complete_file(out) as path, path.open("w", encoding="utf-8", newline="") as stream:
        yield stream


def _write_json(result: Result, stream: TextIO) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in json_rows(result)]
    stream.write("[\n  " + ",\n  ".join(lines) + "\n]\n" if lines else "[]\n")


def _write_jsonl(result: Result, stream: TextIO) -> None:
    for row in json_rows(result):
        stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def _write_csv(result: Result, stream: TextIO) -> None:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(result.columns)
    for row in json_rows(result):
        writer.writerow([csv_cell(value) for value in row.values()])


def _write_parquet(result: Result, stream: TextIO) -> None:
    import pyarrow
    from pyarrow import parquet

    scalars = {
        "BIGINT": pyarrow.int64(),
        "BOOLEAN": pyarrow.bool_(),
        "DOUBLE": pyarrow.float64(),
        "FLOAT": pyarrow.float32(),
        "INTEGER": pyarrow.int32(),
        "SMALLINT": pyarrow.int16(),
        "VARCHAR": pyarrow.string(),
    }
    arrays = []
    for place, kind in enumerate(types(result)):
        base = scalars.get(kind.removesuffix("[]"))
        wanted = pyarrow.list_(base) if base is not None and kind.endswith("[]") else base
        try:
            arrays.append(pyarrow.array([row[place] for row in result.rows], type=wanted))
        except (pyarrow.ArrowException, OverflowError) as error:
            name = result.columns[place]
            raise UsageError(f"parquet cannot hold column {name!r} ({kind}); cast it in the query") from error
    parquet.write_table(pyarrow.Table.from_arrays(arrays, names=result.columns), stream.buffer)


def _write_table(result: Result, stream: TextIO) -> None:
    from featgraph.output.table import console, table

    screen = console(stream)
    drawn, cut = table(result, screen.width)
    screen.print(drawn)
    if cut:
        note(f"columns are cut to fit {screen.width} characters; --format json shows them whole")


_WRITERS: dict[Format, Callable[[Result, Any], None]] = {
    "table": _write_table,
    "json": _write_json,
    "jsonl": _write_jsonl,
    "csv": _write_csv,
    "parquet": _write_parquet,
}

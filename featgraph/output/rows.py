"""Rows for programs: json, jsonl, csv, parquet. Pyarrow is imported by the format that needs it."""

import csv
import json
import re
from typing import Any, TextIO

from featgraph.core.result import Result
from featgraph.errors import UsageError
from featgraph.output.values import csv_cell, json_rows

_CODES = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Controls, and marks that turn the direction of writing, which JSON does not escape by itself."""


def write_json(result: Result, stream: TextIO) -> None:
    """Write a list of objects, one per line."""
    lines = [_json(row) for row in json_rows(result)]
    stream.write("[\n  " + ",\n  ".join(lines) + "\n]\n" if lines else "[]\n")


def write_jsonl(result: Result, stream: TextIO) -> None:
    """Write one object per line."""
    for row in json_rows(result):
        stream.write(_json(row) + "\n")


def _json(row: dict[str, object]) -> str:
    """Return JSON in which codes that a terminal would obey are escaped; it reads as the same."""
    text = json.dumps(row, ensure_ascii=False)
    return _CODES.sub(lambda code: f"\\u{ord(code[0]):04x}", text)


def write_csv(result: Result, stream: TextIO) -> None:
    """Write a header and one line per row; lists and structs are JSON text."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(result.columns)
    for row in json_rows(result):
        writer.writerow([csv_cell(value) for value in row.values()])


def write_safe_csv(result: Result, stream: TextIO) -> None:
    """Write CSV whose texts no spreadsheet takes for formulas: those that begin like one get a `'` before."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([_no_formula(name) for name in result.columns])
    for row in json_rows(result):
        writer.writerow([_no_formula(csv_cell(value)) for value in row.values()])


def _no_formula(value: object) -> object:
    """Return a value that does not begin as a formula does; numbers stay.

    Source: OWASP, CSV injection.
    """
    return (
        f"'{value}"
        if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
        else value
    )


def write_parquet(result: Result, stream: Any) -> None:
    """Write columns with their types.

    Raises UsageError: stdout is a terminal, or the values of a column are not of one type.
    """
    if stream.isatty():
        raise UsageError("parquet is binary and stdout is a terminal; name a file with -o FILE")
    from pyarrow import parquet

    parquet.write_table(result.to_arrow(), stream.buffer)

"""Rows for programs: json, jsonl, csv, parquet. Pyarrow is imported by the format that needs it."""

import csv
import json
from typing import Any, TextIO

from featgraph.core.result import Result
from featgraph.errors import UsageError
from featgraph.output.values import csv_cell, json_rows


def write_json(result: Result, stream: TextIO) -> None:
    """Write a list of objects, one per line."""
    lines = [json.dumps(row, ensure_ascii=False) for row in json_rows(result)]
    stream.write("[\n  " + ",\n  ".join(lines) + "\n]\n" if lines else "[]\n")


def write_jsonl(result: Result, stream: TextIO) -> None:
    """Write one object per line."""
    for row in json_rows(result):
        stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_csv(result: Result, stream: TextIO) -> None:
    """Write a header and one line per row; lists and structs are JSON text."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(result.columns)
    for row in json_rows(result):
        writer.writerow([csv_cell(value) for value in row.values()])


def write_parquet(result: Result, stream: Any) -> None:
    """Write columns with their types.

    Raises UsageError: stdout is a terminal, or the values of a column are not of one type.
    """
    if stream.isatty():
        raise UsageError("parquet is binary and stdout is a terminal; name a file with -o FILE")
    from pyarrow import parquet

    parquet.write_table(result.to_arrow(), stream.buffer)

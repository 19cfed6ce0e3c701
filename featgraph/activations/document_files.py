"""One file -> its documents: plain text between separators, or a column of JSON lines, CSV or Parquet.

The ending of its name says which, and how it is compressed. A file is read as its documents are asked for;
of plain text and lines no more than one document and one chunk is in memory. Which files, and in which order,
is left to `documents.py`.
"""

import codecs
import csv
import io
import json
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any

from featgraph.core.files import os_reason
from featgraph.errors import SourceError, nearest
from featgraph.recipe import CODECS, TextSource

ONE_DOCUMENT = 64_000_000
"""Most characters of a plain text file without a separator, which is in memory as a whole. Our choice."""

CHUNK = 1 << 20
"""Bytes read at once; our choice: large compared with the cost of a call, small compared with a model."""

ROWS = 1024
"""Rows of a Parquet file decoded at once; our choice: a few megabytes of typical documents."""

LONGEST_FIELD = 2**31 - 1
"""Characters that a field of CSV may have: the largest limit that Python's reader takes on every platform."""

COLUMN = "text"
"""Default column; the usual name in text datasets."""

REASON = 300
"""Most characters shown of a library's error message."""

FAULTS = (OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError)
"""Exceptions that pyarrow and `datasets` raise for unreadable input."""


def file_documents(path: Path, source: TextSource) -> Iterator[str]:
    """Yield the documents of one file, unchanged; a file of unknown ending is plain text.

    Raises SourceError: unreadable, not UTF-8, malformed, or without the column.
    """
    return READERS.get(kind(path), _plain)(path, source)


def kind(path: Path) -> str:
    """Return the extension of a file in lower case, without that of its compression.

    >>> kind(Path("stories.JSONL.gz"))
    '.jsonl'
    """
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in CODECS else suffix


def split_at(separator: str, chunks: Iterable[str]) -> Iterator[str]:
    """Yield the parts of `"".join(chunks).split(separator)`, holding one part and one chunk at a time.

    >>> list(split_at(", ", ["one, t", "wo,", " three"]))
    ['one', 'two', 'three']
    """
    held: list[str] = []
    tail = ""  # The end of the chunk may be the beginning of a separator.
    for chunk in chunks:
        *ended, last = (tail + chunk).split(separator)
        if ended:
            yield "".join((*held, ended[0]))
            yield from ended[1:]
            held.clear()
        cut = max(0, len(last) - len(separator) + 1)
        held.append(last[:cut])
        tail = last[cut:]
    yield "".join((*held, tail))


def value_text(row: Mapping[str, object], column: str, place: str) -> str:
    """Return a row's text; a missing value is empty, a missing column is an error.

    place: where the row is, for the message.

    Raises SourceError: no such column, or a value that is not text.
    """
    if column not in row:
        raise no_column(column, row, place)
    value = row[column]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise SourceError(f"{place}: column {column!r} must hold text, not {reprlib.repr(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            half = value[error.start]
            raise SourceError(f"{place}: half a surrogate pair, {half!a}, which is no character") from error
    return value


def no_column(column: str, known: Iterable[str], place: str) -> SourceError:
    """Return the error about a missing column, which lists the columns."""
    names = list(known)
    listed = f"columns are {', '.join(names)}" if names else "there are no columns"
    hint = nearest(column, names) or ";"
    return SourceError(f"{place}: no column {column!r}{hint} {listed}; name one as 'text.column'")


@contextmanager
def reading(what: str, *more: type[Exception]) -> Iterator[None]:
    """Turn a library's error about unreadable input into a SourceError that names the input.

    more: further exceptions of the library, not derived from FAULTS.
    """
    known: tuple[type[Exception], ...] = (*FAULTS, *more)
    try:
        yield
    except known as error:
        reason = os_reason(error)
        file = str(getattr(error, "filename", None) or "")
        within = f": {file}" if file not in what else ""
        raise SourceError(f"cannot read {what}: {shorten(reason, REASON)}{within}") from error


def _plain(path: Path, source: TextSource) -> Iterator[str]:
    chunks = _chunks(path)
    # The text has \n at all line ends, so the separator must too.
    separator = source.separator.replace("\r\n", "\n").replace("\r", "\n")
    if separator:
        yield from split_at(separator, chunks)
        return
    whole: list[str] = []
    size = 0
    for chunk in chunks:
        whole.append(chunk)
        size += len(chunk)
        if size > ONE_DOCUMENT:
            raise SourceError(
                f"{path} is one document of more than {ONE_DOCUMENT:,} letters, since the recipe's separator "
                'is empty; give the text between two documents, such as separator = "\\n\\n" in [text]'
            )
    yield "".join(whole)


def _json_lines(path: Path, source: TextSource) -> Iterator[str]:
    for number, line in enumerate(split_at("\n", _chunks(path)), 1):
        if not line or line.isspace():
            continue
        place = f"{path}:{number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            what = f"{error.msg[:1].lower()}{error.msg[1:]} at column {error.colno}"
            raise SourceError(f"{place}: not JSON, of which each line must be one object: {what}") from error
        except (
            ValueError,
            RecursionError,
        ) as error:  # Python limits the length of numbers and the depth of nesting.
            raise SourceError(f"{place}: cannot read this JSON: {error}") from error
        if not isinstance(row, dict):
            raise SourceError(f"{place}: a line must be one JSON object, not {reprlib.repr(row)}")
        yield value_text(row, source.column or COLUMN, place)


def _csv(path: Path, source: TextSource) -> Iterator[str]:
    csv.field_size_limit(LONGEST_FIELD)
    rows = csv.reader((f"{line}\n" for line in split_at("\n", _chunks(path))), strict=True)
    header: list[str] = []
    try:
        for row in rows:
            place = f"{path}:{rows.line_num}"
            if not header:
                header = row
            elif row and len(row) != len(header):
                raise SourceError(f"{place}: the header has {len(header)} fields, but this row {len(row)}")
            elif row:
                yield value_text(dict(zip(header, row, strict=True)), source.column or COLUMN, place)
    except csv.Error as error:
        raise SourceError(f"{path}:{rows.line_num}: not valid CSV: {error}") from error


def _parquet(path: Path, source: TextSource) -> Iterator[str]:
    from pyarrow.parquet import ParquetFile

    column = source.column or COLUMN
    with reading(f"the text {path}"), path.open("rb") as handle:
        table = ParquetFile(handle, buffer_size=CHUNK, pre_buffer=False, page_checksum_verification=True)
        if column not in table.schema_arrow.names:
            raise no_column(column, table.schema_arrow.names, str(path))
        number = 0
        for batch in table.iter_batches(ROWS, columns=[column]):
            for value in batch.column(0).to_pylist():
                number += 1
                yield value_text({column: value}, column, f"{path}, row {number}")


READERS: dict[str, Callable[[Path, TextSource], Iterator[str]]] = {
    ".txt": _plain,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_lines,
    ".csv": _csv,
    ".parquet": _parquet,
}
"""Extension -> reader of the file; files in a folder with other extensions are skipped."""


def _chunks(path: Path) -> Iterator[str]:
    """Yield the text of a file in chunks: decompressed, with \\n at line ends, without byte order mark."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    lines = io.IncrementalNewlineDecoder(decoder, translate=True)
    n_bytes, first = 0, True
    with reading(f"the text {path}"), _opened(path) as handle:
        while True:
            chunk = handle.read(CHUNK)
            pending = len(decoder.getstate()[0])
            try:
                text = lines.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                place = n_bytes - pending + error.start
                raise SourceError(f"{path} is not UTF-8 at byte {place}; convert it to UTF-8") from error
            n_bytes += len(chunk)
            if text:
                yield text.removeprefix("\ufeff") if first else text
                first = False
            if not chunk:
                return


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file for reading its decompressed bytes."""
    with path.open("rb") as handle:
        codec = CODECS.get(path.suffix.lower())
        if codec is None:
            yield handle
        else:
            from pyarrow import CompressedInputStream

            with CompressedInputStream(handle, codec) as stream:
                yield stream

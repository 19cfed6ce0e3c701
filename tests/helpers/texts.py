"""Writing text in every kind of file that a text source may name, and asking for its documents."""

import bz2
import csv
import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from featgraph.activations.documents import documents
from featgraph.errors import SourceError
from featgraph.recipe import TextSource

STORIES = ["a cat sat", "der Käfer\n\nlief", 'third, "quoted"', "🌧 and 雨"]
END = "<|end|>"
PACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress}


def source(
    path: Path | None = None,
    *,
    dataset: str | None = None,
    config: str | None = None,
    split: str | None = None,
    column: str | None = None,
    separator: str = END,
) -> TextSource:
    return TextSource(path, dataset, config, split, column, separator, tokens=100, context=8)


def all_of(text: TextSource) -> list[str]:
    """Return the documents of a text that may be empty."""
    try:
        return list(documents(text))
    except SourceError as error:
        if str(error).endswith(" is empty; statistics need at least one token"):
            return []
        raise


def refusal(text: TextSource) -> str:
    """Return what reading a text to its end complains of."""
    with pytest.raises(SourceError) as caught:
        list(documents(text))
    return str(caught.value)


def write(path: Path, rows: Sequence[str | None]) -> Path:
    """Write rows as the ending of a file says, plain text with END between them; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    endings = [suffix.lower() for suffix in path.suffixes]
    if ".csv" in endings:
        with path.open("w", encoding="utf-8", newline="") as handle:
            csv.writer(handle).writerows([["id", "text"], *enumerate(rows)])
    elif ".parquet" in endings:
        texts = pyarrow.array(rows, pyarrow.string())
        pyarrow.parquet.write_table(pyarrow.table({"id": range(len(rows)), "text": texts}), path)
    elif {".jsonl", ".ndjson", ".json"} & set(endings):
        lines = [f"{json.dumps({'id': number, 'text': row})}\n" for number, row in enumerate(rows)]
        path.write_bytes(packed("".join(lines), path))
    else:
        path.write_bytes(packed(END.join(row or "" for row in rows), path))
    return path


def packed(text: str, path: Path) -> bytes:
    """Return text as UTF-8, compressed as the ending of a file says."""
    suffix = path.suffix.lower()
    if suffix == ".zst":
        sink = pyarrow.BufferOutputStream()
        with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(text.encode())
        return bytes(sink.getvalue())
    return PACK.get(suffix, bytes)(text.encode())

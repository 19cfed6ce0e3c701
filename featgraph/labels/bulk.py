"""Neuronpedia's bulk files of explanations, one by one, from a disk or a server; each is checked whole."""

import glob
import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from featgraph.core.bounded import json_value
from featgraph.core.files import os_reason
from featgraph.core.http import Refused, RetryPolicy, Unreachable, checked_url, fetch
from featgraph.core.progress import Progress
from featgraph.errors import SourceError, UsageError, nearest

BATCH = 1024
"""Features per bulk file. Source: the exporter of github.com/hijohnnylin/neuronpedia."""

_MOST_BYTES, _LONGEST_LINE = 2**30, 16 * 2**20
"""Most bytes of an unpacked file and of one of its lines; Neuronpedia's files have about 1 MB. Our choice."""

_COLUMNS = ("modelId", "layer", "index", "description")

_ABSENT = (403, 404)
"""Status codes of S3 for a missing file; 403 if the bucket cannot be listed."""


class File(NamedTuple):
    """A bulk file that can be read."""

    path: Path
    shown: str
    """Name in messages."""


def local(place: str, progress: Progress) -> Iterator[File]:
    """Yield the files that a path, a folder or a glob names, batch 2 before batch 10.

    Raises UsageError: no such file. SourceError: a file is damaged or is not a file of explanations.
    """
    files = _found(place)
    with progress.step("explanations", len(files), "files") as advance:
        for path in files:
            _check(path, str(path))
            yield File(path, str(path))
            advance(1)


def remote(
    address: str,
    saes: Sequence[tuple[str | None, int]],
    folder: Path,
    progress: Progress,
    retry_policy: RetryPolicy,
) -> Iterator[File | None]:
    """Yield the files below an address; None for each file that the server does not have.

    saes: (Neuronpedia id, number of features) of each SAE to fetch explanations for; id None if the address
    is that of the SAE's source. folder: holds each file until the next one is fetched.

    Raises UsageError: not a web address. SourceError: a file cannot be fetched, is damaged, or is not a file
    of explanations.
    """
    urls = list(_addresses(checked_url(address), saes))
    path = folder / "batch.jsonl.gz"
    try:
        with progress.step("explanations", len(urls), "files") as advance:
            for url in urls:
                body = _body(url, retry_policy)
                if body is None:
                    yield None
                else:
                    path.write_bytes(body)
                    _check(path, url)
                    yield File(path, url)
                advance(1)
    finally:
        path.unlink(missing_ok=True)


def _body(url: str, retry_policy: RetryPolicy) -> bytes | None:
    try:
        return fetch(url, retry_policy)
    except Refused as error:
        if error.status in _ABSENT:
            return None
        raise SourceError(f"cannot fetch {url}: {error}") from error
    except Unreachable as error:
        raise SourceError(f"cannot fetch {url}: {error}; try again later") from error


def _found(place: str) -> list[Path]:
    path = Path(place)
    if path.is_file():
        return [path]
    if path.is_dir():
        files = [*path.rglob("explanations/*.jsonl.gz"), *path.rglob("explanations/*.jsonl")]
        files = files or [*path.glob("*.jsonl.gz"), *path.glob("*.jsonl")]
    else:
        files = [Path(name) for name in glob.glob(place, recursive=True) if Path(name).is_file()]  # noqa: PTH207
    if not files:
        what = "has no *.jsonl.gz files" if path.is_dir() else "does not exist"
        raise UsageError(f"{place} {what}; give a bulk file, a folder of them, a glob or an address")
    numbers = re.compile(r"(\d+)")
    return sorted(files, key=lambda file: [part.zfill(12) for part in numbers.split(str(file))])


def _addresses(address: str, saes: Sequence[tuple[str | None, int]]) -> Iterator[str]:
    if address.endswith((".jsonl.gz", ".jsonl")):
        yield address
        return
    bare = address.removesuffix("/explanations")
    named = [sae for sae in saes if sae[0] is None or bare.endswith(f"/{sae[0]}")]
    for sae, n_features in named or saes:
        folder = bare if named else f"{bare}/{sae}"
        for batch in range(-(-n_features // BATCH)):
            yield f"{folder}/explanations/batch-{batch}.jsonl.gz"


def _check(path: Path, shown: str) -> None:
    """Raise SourceError if a file is damaged or holds no explanations; DuckDB verifies no check sum."""
    try:
        with path.open("rb") as bare:
            begin = bare.read(2)
        zipped = begin == b"\x1f\x8b" or shown.endswith(".gz")
        if zipped and not begin:
            raise EOFError("it is empty")
        with gzip.open(path) if zipped else path.open("rb") as stream:
            first, n_bytes = stream.readline(_LONGEST_LINE + 1), 0
            if len(first) > _LONGEST_LINE:
                raise SourceError(f"{shown} has a line of more than {_LONGEST_LINE >> 20} MB")
            while zipped and (part := stream.read(1 << 20)):
                n_bytes += len(part)
                if n_bytes > _MOST_BYTES:
                    raise SourceError(
                        f"{shown} unpacks to more than {_MOST_BYTES >> 30} GB, too large for explanations"
                    )
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SourceError(f"{shown} is damaged ({error}); fetch it again") from error
    except OSError as error:
        raise SourceError(f"cannot read {shown}: {os_reason(error)}") from error
    if not first.strip():
        return
    try:
        row = json_value(first)
    except ValueError as error:
        raise SourceError(f"{shown} is not a JSON Lines file: {error}") from error
    columns = list(row) if isinstance(row, dict) else []
    for column in _COLUMNS:
        if column not in columns:
            hint = nearest(column, columns) or f"; it has {', '.join(columns) or 'none'}"
            raise SourceError(f"{shown} is not a file of explanations: it has no column {column!r}{hint}")

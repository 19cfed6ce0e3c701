"""A text source -> its documents in one order: a file, a folder of files, or a Hugging Face dataset.

Documents are read as the caller asks for them, so one who has enough leaves the rest unread.
`document_files.py` reads single files.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featgraph.activations.document_files import (
    COLUMN,
    READERS,
    file_documents,
    kind,
    no_column,
    reading,
    value_text,
)
from featgraph.core.files import file_sha256
from featgraph.errors import SourceError, nearest
from featgraph.recipe import CODECS, TextSource

if TYPE_CHECKING:
    import datasets

FORMATS = {"arrow", "csv", "json", "pandas", "parquet", "sql", "text", "xml"}
"""Names that `datasets` takes for file formats, reading every such file in the current folder."""


def documents(source: TextSource) -> Iterator[str]:
    """Yield the documents of a text without surrounding white space; empty documents are skipped.

    Raises SourceError: absent, unreadable, not UTF-8, malformed, without the column, or without a document.
    """
    path = _local(source)
    if path is None or _is_dataset(source, path):
        texts = _dataset(source, path)
    else:
        texts = (text for file in _files(path, every=False) for text in file_documents(file, source))
    empty = True
    for text in texts:
        if stripped := text.strip():
            empty = False
            yield stripped
    if empty:
        name = repr(source.dataset) if path is None else path
        raise SourceError(f"the text {name} is empty; statistics need at least one token")


def text_digest(source: TextSource) -> str:
    """Return the sha256 of everything that determines the documents: files, column, separator, split.

    Every file is read to its end, whatever the token limit. A dataset on the Hub is known by its name alone
    (ORG/NAME, or ORG/NAME@REVISION to pin it), so that the comparison needs no connection.

    Raises SourceError: a file is absent or unreadable.
    """
    path = _local(source)
    files = []
    if path is not None:
        for file in _files(path, every=_is_dataset(source, path)):
            with reading(f"the text {file}"):
                name = file.name if file == path else file.relative_to(path).as_posix()
                files.append((name, file_sha256(file)))
    hub = source.dataset if path is None else None
    identity = (files, hub, source.config, source.split, source.column or COLUMN, source.separator)
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def _local(source: TextSource) -> Path | None:
    """Return the file or folder of a text; None for a dataset on the Hub."""
    if source.path is not None:
        return source.path
    path = Path(str(source.dataset))
    with reading(f"the dataset {source.dataset!r}"):
        return path if path.exists() else None


def _is_dataset(source: TextSource, path: Path) -> bool:
    """Return whether `datasets` reads the path: it reads folders; we read single files, as for
    'text.path'."""
    return source.dataset is not None and path.is_dir()


def _files(path: Path, *, every: bool) -> Iterator[Path]:
    """Yield the file at a path, or the files below a folder, sorted by name.

    every: include files with unknown extensions; hidden files are always skipped.
    """
    with reading(f"the text {path}"):
        if path.is_file():
            yield path
            return
        if not path.exists():
            raise SourceError(f"there is no text at {path}{_nearest_to(path)}")
        if not path.is_dir():
            raise SourceError(f"cannot read the text {path}: it is neither a file nor a folder")
        if not every and _is_saved(path):
            raise SourceError(f"{path} is a saved dataset; name it as 'text.dataset', not 'text.path'")
        empty = True
        for file in _below(path, frozenset()):
            if every or kind(file) in READERS:
                empty = False
                yield file
        if empty:
            endings = f"{', '.join(READERS)}, alone or followed by {', '.join(CODECS)}"
            raise SourceError(f"no text in the folder {path}; files that are read end in {endings}")


def _below(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    """Yield the files below a folder; links to a parent folder are not followed."""
    inside = folder.resolve()
    if inside in above:
        return
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _below(entry, above | {inside})
        elif entry.is_file():
            yield entry


def _nearest_to(path: Path) -> str:
    """Return a hint for the first part of a path that does not exist: the nearest name beside it."""
    while not path.parent.exists():
        path = path.parent
    names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    return nearest(path.name, names) or "; 'text.path' is relative to the recipe"


def _is_saved(folder: Path) -> bool:
    """Return whether a folder was written by `save_to_disk` of `datasets`."""
    names = {entry.name for entry in folder.iterdir()}
    return names >= {"dataset_info.json", "state.json"} or "dataset_dict.json" in names


def _dataset(source: TextSource, folder: Path | None) -> Iterator[str]:
    """Yield one column of one split of a dataset, from a folder or streamed from the Hub."""
    import datasets

    what = f"the dataset {source.dataset!r}"
    column = source.column or COLUMN
    with reading(what, datasets.exceptions.DatasetsError):
        if folder is not None and _is_saved(folder):
            splits = _saved_splits(folder)
        else:
            splits = _streamed_splits(source, folder)
        rows = _split(splits, source.split, what)
        if rows.column_names is not None:  # Some formats reveal their columns only in the rows.
            if column not in rows.column_names:
                raise no_column(column, rows.column_names, what)
            rows = rows.select_columns([column])
        for number, row in enumerate(rows, 1):
            yield value_text(row, column, f"{what}, row {number}")


def _saved_splits(folder: Path) -> dict[str, "datasets.Dataset"]:
    import datasets

    saved = datasets.load_from_disk(str(folder)).with_format(None)
    return {str(saved.split or "train"): saved} if isinstance(saved, datasets.Dataset) else dict(saved)


def _streamed_splits(source: TextSource, folder: Path | None) -> dict[str, "datasets.IterableDataset"]:
    import datasets

    name, _, revision = str(source.dataset).partition("@")
    if folder is not None:
        # Absolute, because `datasets` takes a folder named like a format for the format.
        name, revision = str(folder.absolute()), ""
    elif name in FORMATS:
        raise SourceError(f"{name!r} is a format, not a dataset; name the file or folder as 'text.path'")
    try:
        return dict(datasets.load_dataset(name, source.config, revision=revision or None, streaming=True))
    except ConnectionError as error:
        raise SourceError(
            f"cannot reach the dataset {name!r}, and there is no folder of that name; where there is a "
            f"connection, run `hf download {name} --repo-type dataset --local-dir FOLDER`, then name that "
            f"folder as 'text.dataset'"
        ) from error


def _split(splits: Mapping[str, Any], wanted: str | None, what: str) -> Any:
    """Return the wanted split, or the only one."""
    if wanted is None and len(splits) == 1:
        return next(iter(splits.values()))
    listed = f"splits are {', '.join(splits)}; name one as 'text.split'"
    if wanted is None:
        raise SourceError(f"{what} has several splits; {listed}")
    if wanted not in splits:
        raise SourceError(f"{what} has no split {wanted!r}{nearest(wanted, splits) or ';'} {listed}")
    return splits[wanted]

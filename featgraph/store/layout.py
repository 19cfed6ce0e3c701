"""The files of a graph directory: their places, the manifest, and why a path is refused as a graph."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from featgraph.core.bounded import json_value, read_text
from featgraph.core.files import file_sha256, os_reason
from featgraph.core.keys import SaeRange
from featgraph.errors import StoreError
from featgraph.store.manifest import checked

FORMAT_VERSION = 6
"""Written into every manifest; a reader refuses any other."""

DATABASE = "graph.duckdb"
MANIFEST = "manifest.json"
VECTORS = "vectors"

_OWN_FILES = {DATABASE, f"{DATABASE}.wal", MANIFEST}
"""The files that a graph directory consists of."""

_WORK_FOLDER = re.compile(r"\.[a-z]+ing")
"""The names of the folders, `.labelling` and the like, in which a change to a graph keeps its files."""

_WORK_FILES = re.compile(r"graph\.duckdb.*|spill|batch\.jsonl\.gz|manifest\.json|[a-z]+\.jsonl")
"""The names of what is in them; `.jsonl` are answers that are not in the graph yet."""

_OWN_VECTORS = re.compile(r"(res|mlp|att)\.\d+\.faiss")
"""The names of the files in its one folder, `vectors`."""


def vectors_file(path: Path, sae: SaeRange) -> Path:
    """Return where the FAISS index of one SAE lies in a graph directory: `vectors/SITE.LAYER.faiss`."""
    return path / VECTORS / f"{sae.site}.{sae.layer}.faiss"


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write `manifest.json`, format version on top; its presence is what makes a directory a graph.

    It gets the sha256 of each file of vectors that is there, unless it names them already.
    """
    files = sorted((path / VECTORS).iterdir()) if (path / VECTORS).is_dir() else []
    hashes = {file.name: file_sha256(file) for file in files if "vectors" not in manifest}
    vectors = {"vectors": hashes} if hashes else {}
    content = {"format_version": FORMAT_VERSION, **manifest, **vectors}
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    (path / MANIFEST).write_text(text, encoding="utf-8")


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of a graph directory.

    Raises StoreError: the manifest is absent or broken.
    """
    file = path / MANIFEST
    with readable(path):
        if not file.is_file():
            raise StoreError(_why_not_a_graph(path))
    try:
        with readable(file):
            return checked(json_value(read_text(file)), file)
    except ValueError as error:
        raise StoreError(f"{file} is broken ({error}); remove {path}, then {rebuild_hint(path)}") from error


def check_replaceable(path: Path) -> None:
    """Refuse to replace anything that a build of featgraph did not write.

    A folder may be replaced when it is empty, or when it is a graph (its manifest names a format version and
    `graph.duckdb` is there) and holds nothing but a graph's own files.

    Raises StoreError: `path` is anything else; nothing has been touched.
    """
    if not os.path.lexists(path):
        return
    if not path.is_dir() or path.is_symlink():
        raise StoreError(f"{path} exists and is not a folder; choose another name with -o")
    with readable(path):
        names = {entry.name for entry in path.iterdir()}
    if names and not (_has_format_version(path) and DATABASE in names):
        raise StoreError(f"{path} exists and is not a feature graph; choose another name with -o")
    foreign = foreign_files(path)
    if foreign:
        raise StoreError(
            f"{path} holds files that are no part of a graph ({', '.join(foreign[:3])}"
            f"{', ...' if len(foreign) > 3 else ''}); move them, or choose another name with -o"
        )


def work_folders(path: Path) -> list[Path]:
    """Return the folders in a graph directory in which a change to it, cut off, left its files."""
    return [
        entry
        for entry in sorted(path.iterdir())
        if _WORK_FOLDER.fullmatch(entry.name) and entry.is_dir() and not entry.is_symlink()
    ]


def _has_format_version(path: Path) -> bool:
    try:
        return isinstance(json_value(read_text(path / MANIFEST)).get("format_version"), int)
    except (OSError, ValueError, AttributeError):
        return False


def foreign_files(path: Path) -> list[str]:
    """Return what lies in a graph directory and is no part of a graph, by name relative to it."""
    foreign = []
    folders = work_folders(path)
    for entry in sorted(path.iterdir()):
        if entry.name == VECTORS and entry.is_dir() and not entry.is_symlink():
            files = sorted(entry.iterdir())
            foreign += [f"{VECTORS}/{file.name}" for file in files if not _OWN_VECTORS.fullmatch(file.name)]
        elif entry in folders:
            files = sorted(entry.iterdir())
            foreign += [f"{entry.name}/{file.name}" for file in files if not _WORK_FILES.fullmatch(file.name)]
        elif entry.name not in _OWN_FILES or not entry.is_file() or entry.is_symlink():
            foreign.append(entry.name)
    return foreign


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn an OSError into a StoreError that names the path."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot read {path}: {os_reason(error)}") from error


def build_directory(path: Path) -> Path:
    """Return where a graph is built before it takes its place at `path`."""
    return path.parent / f".{path.name.replace('?', '%3F')}.building"


def lock_file(path: Path) -> Path:
    """Return the file that a writer of `path` holds."""
    return path.parent / f".{path.name}.lock"


def rebuild_hint(path: Path) -> str:
    """Return the hint to build a graph again."""
    return f"build it again with `featgraph ingest RECIPE -o {path}`"


def _why_not_a_graph(path: Path) -> str:
    if _is_locked(path):
        return f"{path} is still being written; wait for `featgraph ingest` to end"
    if build_directory(path).is_dir() and not path.exists():
        return (
            f"the ingest of {path} was interrupted; give the same command again and it continues from there"
        )
    if not path.exists():
        beside = sorted(str(graph) for graph in Path().glob("*.featgraph"))
        hint = f"graphs here: {', '.join(beside)}" if beside else "make one with `featgraph ingest demo`"
        return f"there is no graph at {path}; {hint}"
    return f"{path} is not a feature graph (it has no {MANIFEST}); make one with `featgraph ingest demo`"


def _is_locked(path: Path) -> bool:
    from filelock import FileLock, Timeout

    if not lock_file(path).is_file():
        return False
    try:
        with FileLock(lock_file(path), timeout=0):
            return False
    except Timeout:
        return True

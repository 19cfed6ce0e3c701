"""The files of a graph directory: their places, the manifest, and why a path is refused as a graph."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from featgraph.core.files import os_reason
from featgraph.core.keys import SaeRange
from featgraph.errors import StoreError

FORMAT_VERSION = 5
"""Written into every manifest; a reader refuses any other."""

DATABASE = "graph.duckdb"
MANIFEST = "manifest.json"
VECTORS = "vectors"

_OWN_FILES = {DATABASE, f"{DATABASE}.wal", MANIFEST}
"""The files that a graph directory consists of."""

_OWN_VECTORS = re.compile(r"(res|mlp|att)\.\d+\.faiss")
"""The names of the files in its one folder, `vectors`."""


def vectors_file(path: Path, sae: SaeRange) -> Path:
    """Return where the FAISS index of one SAE lies in a graph directory: `vectors/SITE.LAYER.faiss`."""
    return path / VECTORS / f"{sae.site}.{sae.layer}.faiss"


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write `manifest.json`, format version on top; its presence is what makes a directory a graph."""
    content = {"format_version": FORMAT_VERSION, **manifest}
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    (path / MANIFEST).write_text(text, encoding="utf-8")


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of a graph directory.

    Raises StoreError: there is none, or it is broken.
    """
    file = path / MANIFEST
    with readable(path):
        if not file.is_file():
            raise StoreError(_why_not_a_graph(path))
    try:
        with readable(file):
            text = file.read_text(encoding="utf-8")
        manifest: dict[str, Any] = json.loads(text)
        manifest["format_version"] = int(manifest["format_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{file} is broken ({error}); remove {path}, then {rebuild_hint(path)}") from error
    return manifest


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
    foreign = _foreign_files(path)
    if foreign:
        raise StoreError(
            f"{path} holds files that are no part of a graph ({', '.join(foreign[:3])}"
            f"{', ...' if len(foreign) > 3 else ''}); move them, or choose another name with -o"
        )


def _has_format_version(path: Path) -> bool:
    try:
        return isinstance(json.loads((path / MANIFEST).read_bytes()).get("format_version"), int)
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


def _foreign_files(path: Path) -> list[str]:
    """Return what lies in a graph directory and is no part of a graph, by name relative to it."""
    foreign = []
    for entry in sorted(path.iterdir()):
        if entry.name == VECTORS and entry.is_dir() and not entry.is_symlink():
            files = sorted(entry.iterdir())
            foreign += [f"{VECTORS}/{file.name}" for file in files if not _OWN_VECTORS.fullmatch(file.name)]
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
    return path.parent / f".{path.name}.building"


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
        return f"the ingest of {path} was cut off before it was complete; run it again, it goes on from there"
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

"""The graph directory: where things lie in it, how it is opened for reading, how a new one takes its place.

Owns the layout, the manifest, the lock and the swap. What is in the tables is the business of `build`
(writing) and `query` (reading). A reader sees the old graph or the new one, never half of one.
"""

import ctypes
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb

from featgraph.errors import StoreError
from featgraph.model import Slab, block_of

FORMAT_VERSION = 4
"""Written into every manifest; a reader refuses any other."""

STORAGE_VERSION = "v1.5.0"
"""DuckDB storage of `graph.duckdb`, so that clients older than ours can read it too."""

BEST_LABEL = "arg_min(text, (source = 'tokens', source, text))"
"""One label of several: what somebody wrote comes before what was made from the feature's tokens."""

_DATABASE = "graph.duckdb"
_MANIFEST = "manifest.json"
_VECTORS = "vectors"

_OWN_FILES = {_DATABASE, f"{_DATABASE}.wal", _MANIFEST}
"""The files that a graph directory consists of."""

_OWN_VECTORS = re.compile(r"(res|mlp|att)\.\d+\.faiss")
"""The names of the files in its one folder, `vectors`."""

_LOCKED_DOWN: dict[str, str | bool | int | float | list[str]] = {
    "python_enable_replacements": False,
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
    "allow_community_extensions": False,
    "max_temp_directory_size": "16GiB",
    "errors_as_json": True,
    "enable_external_access": False,
    "lock_configuration": True,
}


@dataclass(frozen=True)
class Store:
    """One graph directory, open for reading."""

    path: Path
    manifest: dict[str, Any]

    @property
    def database(self) -> Path:
        """The DuckDB file."""
        return self.path / _DATABASE

    def vectors(self, slab: Slab) -> Path:
        """The FAISS index that holds one SAE's decoder directions.

        Raises StoreError: the graph was replaced since it was opened.
        """
        self._check_same()
        return vectors_file(self.path, slab)

    @cached_property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """A read-only connection without file, network, extension or configuration access."""
        opened = connect(self.database)
        self._check_same()
        return opened

    def _check_same(self) -> None:
        """Files are opened one by one, so make sure that all are of the graph whose manifest was read."""
        if _read_manifest(self.path) != self.manifest:
            raise StoreError(f"{self.path} was replaced by a newer build while it was open; open it again")

    @cached_property
    def slabs(self) -> list[Slab]:
        """The SAEs in topological order."""
        columns = "slab, layer, site, first_id, n_features, hook_name"
        return [
            Slab(slab, layer, site, first_id, n_features, block_of(layer, hook_name or "") - layer)
            for slab, layer, site, first_id, n_features, hook_name in self.rows(
                f"select {columns} from sae order by slab"
            )
        ]

    def rows(self, statement: str, parameters: Mapping[str, object] | None = None) -> list[tuple[Any, ...]]:
        """Return what one of our own statements answers; a user's statement goes through `query.run`.

        Raises StoreError: the database is damaged.
        """
        try:
            with self.connection.cursor() as cursor:  # of its own, so that threads may share a store
                return cursor.execute(statement, dict(parameters or {})).fetchall()
        except duckdb.Error as error:
            raise _unreadable(self.database, error) from error

    def close(self) -> None:
        """Close the connection, if one was opened."""
        if "connection" in self.__dict__:
            self.connection.close()
            del self.__dict__["connection"]

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_store(path: str | Path) -> Store:
    """Open a graph directory for reading.

    Raises StoreError: there is no graph at `path`, it is still being written, it is broken, or it was
    written by a newer or an older featgraph.
    """
    path = Path(path)
    manifest = _read_manifest(path)
    version = manifest["format_version"]
    if version > FORMAT_VERSION:
        raise StoreError(
            f"{path} was written in graph format {version}, this featgraph reads up to {FORMAT_VERSION}; "
            "upgrade with `pip install -U featgraph`"
        )
    if version < FORMAT_VERSION:
        raise StoreError(
            f"{path} was written by an older featgraph, in graph format {version}; this one reads format "
            f"{FORMAT_VERSION}; {_again(path)}"
        )
    with _reading(path):
        if not (path / _DATABASE).is_file():
            raise StoreError(f"{path} has no {_DATABASE}; remove it, then {_again(path)}")
    return Store(path, manifest)


def connect(database: Path) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB file read-only and lock its configuration; large sorts spill outside the graph directory.

    DuckDB's errors come as JSON, so that `query` can point at the place in the statement.

    Raises StoreError: the file is not a DuckDB database, is damaged, or is held by a writer.
    """
    try:
        spill = str(Path(tempfile.gettempdir()) / f"featgraph-{os.getpid()}")
        settings = {**_LOCKED_DOWN, "temp_directory": spill}
        return duckdb.connect(str(database), read_only=True, config=settings)
    except duckdb.Error as error:
        raise _unreadable(database, error) from error


def vectors_file(path: Path, slab: Slab) -> Path:
    """Return where the FAISS index of one SAE lies in a graph directory: `vectors/SITE.LAYER.faiss`."""
    return path / _VECTORS / f"{slab.site}.{slab.layer}.faiss"


def create_database(path: Path) -> duckdb.DuckDBPyConnection:
    """Create `graph.duckdb` with its empty tables in a build directory and return the open connection."""
    connection = duckdb.connect()
    target = str(path / _DATABASE).replace("'", "''")
    connection.execute(f"attach '{target}' as graph (storage_version '{STORAGE_VERSION}')")
    connection.execute("use graph")
    connection.execute(_package_sql("schema.sql"))
    return connection


def fill_pairs(connection: duckdb.DuckDBPyConnection) -> None:
    """Fill `pair` from the edges, once the verbs are installed."""
    connection.execute("""
        insert into pair
        select p.sae[e.src // p.size + 1].slab as src_slab, p.sae[e.dst // p.size + 1].slab as dst_slab,
            e.kind, count(*) as n_edges
        from edge e, places() p
        group by all
        order by src_slab, dst_slab, e.kind
    """)


def finish_database(connection: duckdb.DuckDBPyConnection) -> None:
    """Install the verbs as table macros, list the pairs of SAEs, write all to the file, and close it."""
    for macros in ("verbs.sql", "search.sql"):
        connection.execute(_package_sql(macros))
    fill_pairs(connection)
    connection.execute("checkpoint graph")
    connection.close()


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write `manifest.json`, format version on top; its presence is what makes a directory a graph."""
    content = {"format_version": FORMAT_VERSION, **manifest}
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    (path / _MANIFEST).write_text(text, encoding="utf-8")


@contextmanager
def building(path: Path, *, replaces: bool = True) -> Iterator[Path]:
    """Yield the build directory beside `path`, held against other writers; what is in it stays there.

    It goes when `publish` has put its graph at `path`, or when the caller removes it: a build that failed
    leaves its finished steps for the next one.
    replaces: the build will take the place of `path`, so that nothing else may be lost there.

    Raises StoreError: another process is writing the same graph, or `path` must not be replaced.
    """
    from filelock import FileLock, Timeout

    if replaces:
        check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(_lock_file(path))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise StoreError(f"{path} is being written by another process; wait for it to end") from error
    try:
        build = _build_directory(path)
        build.mkdir(exist_ok=True)
        yield build
    finally:
        with suppress(OSError):
            _lock_file(path).unlink()  # while it is held: later it could be another writer's
        lock.release()


def new_graph(build: Path) -> Path:
    """Return the graph directory within a build directory, with room for the vectors."""
    graph = build / "graph"
    (graph / _VECTORS).mkdir(parents=True, exist_ok=True)
    return graph


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
    with _reading(path):
        names = {entry.name for entry in path.iterdir()}
    if names and not (_has_format_version(path) and _DATABASE in names):
        raise StoreError(f"{path} exists and is not a feature graph; choose another name with -o")
    foreign = _foreign_files(path)
    if foreign:
        raise StoreError(
            f"{path} holds files that are no part of a graph ({', '.join(foreign[:3])}"
            f"{', ...' if len(foreign) > 3 else ''}); move them, or choose another name with -o"
        )


def _has_format_version(path: Path) -> bool:
    try:
        return isinstance(json.loads((path / _MANIFEST).read_bytes()).get("format_version"), int)
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


def _foreign_files(path: Path) -> list[str]:
    """Return what lies in a graph directory and is no part of a graph, by name relative to it."""
    foreign = []
    for entry in sorted(path.iterdir()):
        if entry.name == _VECTORS and entry.is_dir() and not entry.is_symlink():
            files = sorted(entry.iterdir())
            foreign += [f"{_VECTORS}/{file.name}" for file in files if not _OWN_VECTORS.fullmatch(file.name)]
        elif entry.name not in _OWN_FILES or not entry.is_file() or entry.is_symlink():
            foreign.append(entry.name)
    return foreign


def publish(build: Path, path: Path) -> None:
    """Put the graph of a build directory at `path`, on the disk first, and remove the rest.

    Raises StoreError: since `building`, somebody put something at `path` that must not be replaced.
    """
    check_replaceable(path)
    graph = new_graph(build)
    _fsync_tree(graph)
    _swap(graph, path)
    shutil.rmtree(build, ignore_errors=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield an empty graph directory; on success it takes the place of `path`, else nothing is left of it.

    Raises StoreError: as `building`.
    """
    with building(path) as build:
        try:
            shutil.rmtree(build, ignore_errors=True)
            yield new_graph(build)
            publish(build, path)
        finally:
            shutil.rmtree(build, ignore_errors=True)


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / _MANIFEST
    with _reading(path):
        if not file.is_file():
            raise StoreError(_why_not_a_graph(path))
    try:
        with _reading(file):
            text = file.read_text(encoding="utf-8")
        manifest: dict[str, Any] = json.loads(text)
        manifest["format_version"] = int(manifest["format_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{file} is broken ({error}); remove {path}, then {_again(path)}") from error
    return manifest


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say of which path it is that the system refuses to tell us something."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error


def _package_sql(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _build_directory(path: Path) -> Path:
    return path.parent / f".{path.name}.building"


def _lock_file(path: Path) -> Path:
    return path.parent / f".{path.name}.lock"


def _again(path: Path) -> str:
    return f"build it again with `featgraph ingest RECIPE -o {path}`"


def _unreadable(database: Path, error: duckdb.Error) -> StoreError:
    reason = str(error)
    with suppress(ValueError, KeyError):
        reason = json.loads(reason[reason.index("{") :])["exception_message"]
    if "different configuration" in reason:
        return StoreError(
            f"{database} is open in this process, by a DuckDB connection of its own; close that"
        )
    return StoreError(f"cannot read {database}: {reason.splitlines()[0]}; {_again(database.parent)}")


def _why_not_a_graph(path: Path) -> str:
    if _is_locked(path):
        return f"{path} is still being written; wait for `featgraph ingest` to end"
    if _build_directory(path).is_dir() and not path.exists():
        return f"the ingest of {path} was cut off before it was complete; run it again, it goes on from there"
    if not path.exists():
        beside = sorted(str(found) for found in Path().glob("*.featgraph"))
        hint = f"graphs here: {', '.join(beside)}" if beside else "make one with `featgraph ingest demo`"
        return f"there is no graph at {path}; {hint}"
    return f"{path} is not a feature graph (it has no {_MANIFEST}); make one with `featgraph ingest demo`"


def _is_locked(path: Path) -> bool:
    from filelock import FileLock, Timeout

    if not _lock_file(path).is_file():
        return False
    try:
        with FileLock(_lock_file(path), timeout=0):
            return False
    except Timeout:
        return True


def _fsync_tree(path: Path) -> None:
    for found in [*path.rglob("*"), path]:
        handle = os.open(found, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _swap(build: Path, path: Path) -> None:
    """Put the build directory at `path`; what was there ends up in `build`, for the caller to remove."""
    if not path.exists():
        build.rename(path)
    elif not _exchange(build, path):
        old = path.parent / f".{path.name}.old"
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
        build.rename(path)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step where the system can (Linux `renameat2`); say whether it did."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of <linux/fs.h>
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)

"""Updates of an existing graph: made in a copy of its database, which then replaces it.

The new `graph.duckdb` is written beside the old one, forced to the disk and renamed over it; the manifest
follows. Interrupted at any moment, the graph stays whole: between the two renames only the manifest's note of
the update is missing. This file owns the lock, the copy and the renames; `labels` and `ablation` say what to
change.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from featgraph import store
from featgraph.core.files import fsync_path, os_reason
from featgraph.errors import StoreError
from featgraph.store import STORAGE_VERSION, Store

MEMORY = "2GiB"
"""Most memory for what is staged and its sorting; beyond that DuckDB spills to the work folder."""

Statement = tuple[str, Mapping[str, object] | None]
"""What to run, and its parameters."""


@dataclass(frozen=True)
class GraphUpdate:
    """One graph that this process alone may write."""

    store: Store
    """The graph as it was."""
    folder: Path
    """For files of this work; what is left in it stays for the next one of its kind."""
    connection: duckdb.DuckDBPyConnection
    """A database of its own, for what is to go into the graph."""

    def replace_database(self, statements: Sequence[Statement]) -> None:
        """Run statements on a copy of the database, attached as `graph`, and put it in the old one's place.

        Raises duckdb.Error or OSError: the graph is then as it was.
        """
        database = self.store.database
        copy = self.folder / database.name
        try:
            shutil.copyfile(database, copy)
            name = "'" + str(copy).replace("'", "''") + "'"
            self.connection.execute(f"attach {name} as graph (storage_version '{STORAGE_VERSION}')")
            try:
                self.connection.execute("begin")
                for statement, parameters in statements:
                    self.connection.execute(statement, parameters)
                self.connection.execute("commit")
                self.connection.execute("checkpoint graph")
            finally:
                with suppress(duckdb.Error):  # there may be none, or DuckDB has ended it
                    self.connection.execute("rollback")
                self.connection.execute("detach graph")
            fsync_path(copy)
            copy.replace(database)
            fsync_path(database.parent)
        finally:
            for left in (copy, copy.with_name(f"{copy.name}.wal")):
                left.unlink(missing_ok=True)

    def replace_manifest(self, manifest: dict[str, Any]) -> None:
        """Put another manifest in the old one's place."""
        store.write_manifest(self.folder, manifest)
        (written,) = self.folder.glob("*.json")
        fsync_path(written)
        written.replace(self.store.path / written.name)
        fsync_path(self.store.path)


@contextmanager
def updating(path: str | Path, work: str) -> Iterator[GraphUpdate]:
    """Open a graph for a change; readers go on with what they have.

    work: name of the folder, within the graph, for the files of this kind of change.

    Raises StoreError: there is no graph, it cannot be read or written, or another process is writing it.
    """
    path = Path(path)
    store.open_store(path)  # before a lock is put beside it
    try:
        with store.building(path, replaces=False) as build:
            try:
                with store.open_store(path) as opened, _working(opened, opened.path / work) as update:
                    yield update
            finally:
                with suppress(OSError):  # it has the steps of an ingest that was cut off
                    build.rmdir()
    except (OSError, duckdb.Error) as error:
        raise StoreError(f"cannot write {path}: {os_reason(error)}; the graph is as it was") from error


@contextmanager
def _working(opened: Store, folder: Path) -> Iterator[GraphUpdate]:
    folder.mkdir(exist_ok=True)
    for left in folder.glob(f"{opened.database.name}*"):  # of one that was killed
        left.unlink()
    spill = folder / "spill"
    settings: dict[str, str | bool | int | float | list[str]] = {
        "temp_directory": str(spill),
        "memory_limit": MEMORY,
    }
    try:
        with duckdb.connect(config=settings) as connection:
            connection.execute("set enable_progress_bar = false")  # it would go to stdout
            yield GraphUpdate(opened, folder, connection)
    finally:
        shutil.rmtree(spill, ignore_errors=True)
        with suppress(OSError):  # something is kept in it
            folder.rmdir()

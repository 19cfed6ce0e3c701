"""Updates of an existing graph: made in a copy of its database, which then replaces it.

The new `graph.duckdb` is written beside the old one, forced to the disk and renamed over it; the manifest
follows. Interrupted at any moment, the graph stays whole: between the two renames only the manifest's note of
the update is missing. `store.building` takes the lock, as for an ingest; this module makes the copy and the
renames; `labels` and `ablation` give the statements to run.
"""

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from featgraph import store
from featgraph.core.files import fsync_path, os_reason
from featgraph.errors import StoreError
from featgraph.store import Store
from featgraph.store.database import writing

MEMORY = "2GiB"
"""Memory limit for staged rows and sorting; beyond it DuckDB spills to the work folder."""

SPILL = "spill"
"""Folder, within that of the work, for what does not fit in memory."""

Statement = tuple[str, Mapping[str, object] | None]
"""What to run, and its parameters."""


@dataclass(frozen=True)
class GraphUpdate:
    """One graph that this process alone may write."""

    store: Store
    """The graph as it was."""
    folder: Path
    """For files of this update; files left in it stay for the next update of its kind."""
    connection: duckdb.DuckDBPyConnection
    """A separate database that stages the new rows."""

    def replace_database(self, statements: Sequence[Statement]) -> None:
        """Run statements on a copy of the database, named `graph`, and put it in the old one's place.

        They can read the tables of this update's own connection, and run in a lock-down: the graph may be
        from somebody else.

        Raises StoreError: the graph holds other things than featgraph makes. duckdb.Error or OSError: it
        cannot be written. The graph is then as it was.
        """
        database = self.store.database
        copy = self.folder / database.name
        try:
            shutil.copyfile(database, copy)
            with writing(copy, self.folder / SPILL, self._staged(statements)) as connection:
                connection.execute("begin")
                for statement, parameters in statements:
                    connection.execute(statement, parameters)
                connection.execute("commit")
                connection.execute("checkpoint graph")
            fsync_path(copy)
            copy.replace(database)
            fsync_path(database.parent)
        finally:
            for left in (copy, copy.with_name(f"{copy.name}.wal")):
                left.unlink(missing_ok=True)

    def _staged(self, statements: Sequence[Statement]) -> dict[str, pa.Table]:
        """Return the tables of the own connection that statements name."""
        named = {str(row[0]) for row in self.connection.execute("show tables").fetchall()}
        words = {word for statement, _ in statements for word in re.findall(r"\w+", statement)}
        return {name: self.connection.table(name).to_arrow_table() for name in named & words}

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
        with (
            store.building(path, replaces=False),
            store.open_store(path) as opened,
            _working(opened, opened.path / work) as update,
        ):
            yield update
    except (OSError, duckdb.Error) as error:
        raise StoreError(f"cannot write {path}: {os_reason(error)}; the graph is as it was") from error


@contextmanager
def _working(opened: Store, folder: Path) -> Iterator[GraphUpdate]:
    for place in (opened.path / store.MANIFEST, opened.database, folder):
        if place.is_symlink():  # of a graph from somebody else, it could lead anywhere
            raise StoreError(f"{place} is a link, which no graph has; it is not written to")
    folder.mkdir(exist_ok=True)
    for left in folder.glob(f"{opened.database.name}*"):  # of one that was killed
        left.unlink()
    spill = folder / SPILL
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

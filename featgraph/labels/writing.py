"""Labels into a graph that is there already: staged in a database of their own, then put into it at once.

The new `graph.duckdb` is written beside the old one, forced to the disk and renamed over it; the manifest
follows. Whenever that is cut off, the graph is whole: between the two renames it has its labels, and only the
note where they came from is missing. A label takes the place of those of the same source and feature.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from featgraph import store
from featgraph.errors import StoreError
from featgraph.store import STORAGE_VERSION, Store

MEMORY = "2GiB"
"""Most memory for staged labels and their sorting; beyond that DuckDB spills to the work folder."""

_WORK = ".labelling"

_STAGED = "create table staged (feature integer, source varchar, text varchar)"

_SAES = "create table sae (layer integer, site varchar, first_id integer, n_features integer, place varchar)"

_RELABEL = """
    create table graph.relabelled as
    select feature, source, text
    from (
        from graph.label l
        where not coalesce(list_contains($remade, l.source), false)
            and not exists (select 1 from staged s where s.feature = l.feature and s.source = l.source)
        union all
        select distinct feature, source, text from staged
    )
    order by feature, source = 'tokens', source, text
"""

_ADDED = """
    select source, count(distinct (feature, text)), count(distinct feature)
    from staged
    group by source
    order by source
"""


@dataclass(frozen=True)
class Added:
    """Labels of one source that were put into a graph."""

    source: str
    n: int
    n_features: int


@dataclass(frozen=True)
class Labelled:
    """What a labelling did: the labels of each source, and a sentence for all that was left out."""

    added: list[Added]
    left_out: list[str]


@dataclass(frozen=True)
class Labelling:
    """One graph that this process alone may write, and the labels that are to go into it."""

    store: Store
    """The graph as it was."""
    folder: Path
    """For files of this work; what is left in it stays for the next labelling of this graph."""
    connection: duckdb.DuckDBPyConnection
    """Holds `staged`, as the table `label`, and `sae` with its `neuronpedia_id` as `place`."""

    def stage(self, ids: list[int], source: str, texts: list[str]) -> None:
        """Add labels of one source."""
        rows = pa.table({"feature": pa.array(ids, pa.int32()), "source": [source] * len(ids), "text": texts})
        self.connection.register("rows", rows)
        self.connection.execute("insert into staged from rows")
        self.connection.unregister("rows")

    def commit(self, origin: str, *, remade: tuple[str, ...] = ()) -> list[Added]:
        """Put what is staged into the graph, and note in its manifest where it came from.

        remade: sources of which all labels go, whether their features have new ones or not.

        Raises StoreError: the graph cannot be written; it is then as it was.
        """
        added = [Added(*row) for row in self.connection.execute(_ADDED).fetchall()]
        if not added and not remade:
            return []
        self._replace_database(remade)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        new = [{"source": each.source, "n": each.n, "from": origin, "at": now} for each in added]
        told = {(entry["source"], entry["from"]) for entry in new}
        before = [
            entry
            for entry in self.store.manifest.get("labels", [])
            if (entry["source"], entry["from"]) not in told and entry["source"] not in remade
        ]
        self._replace_manifest({**self.store.manifest, "labels": before + new})
        self.connection.execute("truncate staged")
        return added

    def _replace_database(self, remade: tuple[str, ...]) -> None:
        database = self.store.database
        copy = self.folder / database.name
        try:
            shutil.copyfile(database, copy)
            name = _quoted(copy)
            self.connection.execute(f"attach {name} as graph (storage_version '{STORAGE_VERSION}')")
            try:
                self.connection.execute("begin")
                self.connection.execute(_RELABEL, {"remade": list(remade)})
                self.connection.execute("drop table graph.label")
                self.connection.execute("alter table graph.relabelled rename to label")
                self.connection.execute("commit")
                self.connection.execute("checkpoint graph")
            finally:
                with suppress(duckdb.Error):  # there may be none, or DuckDB has ended it
                    self.connection.execute("rollback")
                self.connection.execute("detach graph")
            _to_disk(copy)
            copy.replace(database)
            _to_disk(database.parent)
        finally:
            for left in (copy, copy.with_name(f"{copy.name}.wal")):
                left.unlink(missing_ok=True)

    def _replace_manifest(self, manifest: dict[str, Any]) -> None:
        store.write_manifest(self.folder, manifest)
        (written,) = self.folder.glob("*.json")
        _to_disk(written)
        written.replace(self.store.path / written.name)
        _to_disk(self.store.path)


def counted(n: int, noun: str) -> str:
    """Return a number and what it counts.

    >>> counted(1, "row"), counted(2000, "row")
    ('1 row', '2,000 rows')
    """
    return f"{n:,} {noun}{'s' * (n != 1)}"


@contextmanager
def labelling(path: str | Path) -> Iterator[Labelling]:
    """Open a graph for labelling; readers go on with what they have.

    Raises StoreError: there is no graph, it cannot be read or written, or another process is writing it.
    """
    path = Path(path)
    store.open_store(path)  # before a lock is put beside it
    try:
        with store.building(path) as build:
            try:
                with store.open_store(path) as opened, _work(opened) as work:
                    yield work
            finally:
                with suppress(OSError):  # it has the steps of an ingest that was cut off
                    build.rmdir()
    except (OSError, duckdb.Error) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise StoreError(f"cannot write {path}: {reason}; the graph is as it was") from error


@contextmanager
def _work(opened: Store) -> Iterator[Labelling]:
    folder = opened.path / _WORK
    folder.mkdir(exist_ok=True)
    for left in folder.glob(f"{opened.database.name}*"):  # of a labelling that was killed
        left.unlink()
    spill = folder / "spill"
    settings: dict[str, str | bool | int | float | list[str]] = {
        "temp_directory": str(spill),
        "memory_limit": MEMORY,
    }
    try:
        with duckdb.connect(config=settings) as connection:
            connection.execute("set enable_progress_bar = false")  # it would go to stdout
            connection.execute(_STAGED)
            connection.execute(_SAES)
            for row in opened.rows("select layer, site, first_id, n_features, neuronpedia_id from sae"):
                connection.execute("insert into sae values (?, ?, ?, ?, ?)", row)
            yield Labelling(opened, folder, connection)
    finally:
        shutil.rmtree(spill, ignore_errors=True)
        with suppress(OSError):  # something is kept in it
            folder.rmdir()


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

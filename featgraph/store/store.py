"""A graph directory, open for reading."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from featgraph.core.keys import SaeRange, block_of
from featgraph.errors import StoreError
from featgraph.store.database import connect, unreadable
from featgraph.store.layout import (
    DATABASE,
    FORMAT_VERSION,
    read_manifest,
    readable,
    rebuild_hint,
    vectors_file,
)

Made = TypeVar("Made")


@dataclass(frozen=True)
class Store:
    """One graph directory, open for reading."""

    path: Path
    manifest: dict[str, Any]
    _made: dict[Callable[..., Any], Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False, compare=False)

    @property
    def database(self) -> Path:
        """The DuckDB file."""
        return self.path / DATABASE

    def vectors(self, sae: SaeRange) -> Path:
        """The FAISS index that holds one SAE's decoder directions.

        Raises StoreError: the graph was replaced since it was opened.
        """
        self._check_same()
        return vectors_file(self.path, sae)

    @cached_property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """A read-only connection without file, network, extension or configuration access."""
        opened = connect(self.database)
        self._check_same()
        return opened

    def _check_same(self) -> None:
        """Files are opened one by one, so make sure that all are of the graph whose manifest was read."""
        if read_manifest(self.path) != self.manifest:
            raise StoreError(f"{self.path} was replaced by a newer build while it was open; open it again")

    @cached_property
    def saes(self) -> list[SaeRange]:
        """The SAEs in topological order."""
        columns = "number, layer, site, first_id, n_features, hook_name"
        return [
            SaeRange(sae, layer, site, first_id, n_features, block_of(layer, hook_name or "") - layer)
            for sae, layer, site, first_id, n_features, hook_name in self.rows(
                f"select {columns} from sae order by number"
            )
        ]

    def cached(self, make: "Callable[[Store], Made]") -> "Made":
        """Return `make(store)`, made at the first call and kept; threads may share a store."""
        with self._lock:
            if make not in self._made:
                self._made[make] = make(self)
            made: Made = self._made[make]
            return made

    def rows(self, statement: str, parameters: Mapping[str, object] | None = None) -> list[tuple[Any, ...]]:
        """Return what one of our own statements answers; a user's statement goes through `query.run`.

        Raises StoreError: the database is damaged.
        """
        try:
            with self.connection.cursor() as cursor:  # of its own, so that threads may share a store
                return cursor.execute(statement, dict(parameters or {})).fetchall()
        except duckdb.Error as error:
            raise unreadable(self.database, error) from error

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
    manifest = read_manifest(path)
    version = manifest["format_version"]
    if version > FORMAT_VERSION:
        raise StoreError(
            f"{path} was written in graph format {version}, this featgraph reads up to {FORMAT_VERSION}; "
            "upgrade with `pip install -U featgraph`"
        )
    if version < FORMAT_VERSION:
        raise StoreError(
            f"{path} was written by an older featgraph, in graph format {version}; this one reads format "
            f"{FORMAT_VERSION}; {rebuild_hint(path)}"
        )
    with readable(path):
        if not (path / DATABASE).is_file():
            raise StoreError(f"{path} has no {DATABASE}; remove it, then {rebuild_hint(path)}")
    return Store(path, manifest)

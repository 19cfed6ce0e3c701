"""A graph directory, open for reading."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import duckdb

from featgraph.core.files import file_sha256
from featgraph.core.keys import SITES, SaeRange, block_of
from featgraph.core.limits import OutOfMemory, default_memory, in_limits
from featgraph.core.result import TIMEOUT
from featgraph.errors import FeatgraphError, QueryError, StoreError
from featgraph.store.catalogue import check_readable
from featgraph.store.database import connect, unreadable
from featgraph.store.layout import (
    DATABASE,
    FORMAT_VERSION,
    MANIFEST,
    read_manifest,
    readable,
    rebuild_hint,
    vectors_file,
)

if TYPE_CHECKING:
    import pyarrow as pa

Answer = TypeVar("Answer")

Made = TypeVar("Made")


@dataclass(frozen=True)
class Store:
    """One graph directory, open for reading."""

    path: Path
    manifest: dict[str, Any]
    timeout: float | None = TIMEOUT
    """Seconds that one of our own statements may take; None for no limit."""
    memory: int = field(default_factory=default_memory)
    """Bytes that DuckDB, and an answer, may take."""
    _made: dict[Callable[..., Any], Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False, compare=False)

    @property
    def database(self) -> Path:
        """The DuckDB file."""
        return self.path / DATABASE

    def vectors(self, sae: SaeRange) -> Path:
        """The FAISS index that holds one SAE's decoder directions, looked through when it is first asked for.

        Raises StoreError: the graph was replaced since it was opened, or the file is not the one that the
        manifest names, nor an index of so many unit directions.
        """
        self._check_same()
        file = vectors_file(self.path, sae)
        checked: set[Path] = self.__dict__.setdefault("checked_vectors", set())
        if file not in checked:
            from featgraph.store import vectors

            vectors.check(file, sae.n_features, self.d_model)
            self._check_hash(file)
            checked.add(file)
        return file

    def _check_hash(self, file: Path) -> None:
        """Raise StoreError: a file is not the one whose sha256 the manifest has."""
        known = self.part("vectors").get(file.name)
        if known is not None and known != file_sha256(file):
            raise StoreError(
                f"{file} is not the file that was written: its sha256 is not the one in the manifest; "
                f"{rebuild_hint(self.path)}"
            )

    @property
    def d_model(self) -> int:
        """Width of the residual stream.

        Raises StoreError: the manifest does not say.
        """
        width = self.part("model").get("d_model")
        if not isinstance(width, int) or isinstance(width, bool) or not 0 < width < 2**31:
            raise StoreError(
                f"{self.path / MANIFEST} has no model.d_model that is a width; {rebuild_hint(self.path)}"
            )
        return width

    def part(self, name: str) -> dict[str, Any]:
        """Return a table of the manifest, empty if it has none of this name.

        Raises StoreError: it is something else than a table.
        """
        found = self.manifest.get(name, {})
        if not isinstance(found, dict):
            raise StoreError(f"{self.path / MANIFEST}: {name!r} is no table; {rebuild_hint(self.path)}")
        return found

    @cached_property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """A read-only connection without file, network, extension or configuration access."""
        opened = connect(self.database, self.memory)
        try:
            self._check_same()
            in_limits(opened, lambda: check_readable(self.path, opened), None)
        except duckdb.Error as error:
            opened.close()
            raise unreadable(self.database, error) from error
        except (StoreError, KeyboardInterrupt):
            opened.close()
            raise
        return opened

    def _check_same(self) -> None:
        """Files are opened one by one, so make sure that all are of the graph whose manifest was read."""
        if read_manifest(self.path) != self.manifest:
            raise StoreError(f"{self.path} was replaced by a newer build while it was open; open it again")

    @cached_property
    def saes(self) -> list[SaeRange]:
        """The SAEs in topological order.

        Raises StoreError: the database is damaged, or they are not numbered as those of a graph.
        """
        columns = "number, layer, site, first_id, n_features, hook_name"
        rows = self.rows(f"select {columns} from sae order by number")
        ((n_features,),) = self.rows("select count(*) from feature")
        first = 0
        for place, (number, layer, site, first_id, n, _) in enumerate(rows):
            counts = all(isinstance(value, int) and value >= 0 for value in (layer, n))
            if not counts or number != place or first_id != first or site not in SITES:
                raise self._bad_saes(f"SAE {number} ({layer}/{site}) is out of order")
            first += n
        if first != n_features:
            raise self._bad_saes(f"they have {first:,} features, and the database {n_features:,}")
        return [
            SaeRange(number, layer, site, first_id, n, block_of(layer, hook_name or "") - layer)
            for number, layer, site, first_id, n, hook_name in rows
        ]

    def _bad_saes(self, reason: str) -> StoreError:
        return StoreError(
            f"the SAEs of {self.path} are not those of a graph: {reason}; {rebuild_hint(self.path)}"
        )

    def cached(self, make: "Callable[[Store], Made]") -> "Made":
        """Return `make(store)`, made at the first call and kept; threads may share a store."""
        with self._lock:
            if make not in self._made:
                self._made[make] = make(self)
            made: Made = self._made[make]
            return made

    def rows(self, statement: str, parameters: Mapping[str, object] | None = None) -> list[tuple[Any, ...]]:
        """Return the rows of one of featgraph's own statements; a user's statement goes through `query.run`.

        Raises StoreError: the database is damaged. QueryError: a value in it cannot be asked for, or it took
        more time or memory than it may. KeyboardInterrupt: the user stopped it.
        """
        return self._asked(lambda cursor: cursor.execute(statement, dict(parameters or {})).fetchall())

    def arrow(self, statement: str, parameters: Mapping[str, object] | None = None) -> "pa.Table":
        """Return what one of our own statements answers, as an Arrow table.

        Raises StoreError, QueryError, KeyboardInterrupt: as `rows`.
        """
        return self._asked(
            lambda cursor: cursor.sql(statement, params=dict(parameters or {})).to_arrow_table()
        )

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a connection of its own for one question, so that threads may share a store.

        Raises StoreError: the database cannot be opened.
        """
        opened = self.connection.cursor()
        try:
            yield opened
        finally:
            with suppress(duckdb.Error):  # it is busy with what was left behind, see `limits`
                opened.close()

    def _asked(self, work: Callable[[duckdb.DuckDBPyConnection], Answer]) -> Answer:
        too_long = f"reading {self.path} took longer than {self.timeout} s and was stopped"
        try:
            with self.cursor() as cursor:
                said = {"too_long": too_long, "too_large": too_large(self.memory)}
                return in_limits(cursor, lambda: work(cursor), self.timeout, self.memory, **said)
        except TimeoutError as error:
            raise QueryError(too_long) from error
        except (OutOfMemory, MemoryError, duckdb.OutOfMemoryException) as error:
            raise QueryError(too_large(self.memory)) from error
        except duckdb.Error as error:
            raise _fault(self.database, error) from error

    def close(self) -> None:
        """Close the connection, if one was opened; a question left behind closes its own when it ends."""
        if "connection" in self.__dict__:
            with suppress(duckdb.ResourceInUseException):  # see `limits`
                self.connection.close()
            del self.__dict__["connection"]

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


_USERS = (
    duckdb.InvalidInputException,
    duckdb.ConversionException,
    duckdb.OutOfRangeException,
    duckdb.ConstraintException,
)
"""What DuckDB raises for a value that somebody asked for, not for what is in the file."""


def too_large(memory: int) -> str:
    """Return the sentence that says that a question went beyond its memory."""
    return (
        f"this takes more than {memory / 1e9:.1f} GB of memory; narrow it (one layer, fewer columns, a "
        "limit) or allow more with --memory"
    )


def _fault(database: Path, error: duckdb.Error) -> FeatgraphError:
    """Return a user's mistake as one, and all else as what is wrong with the graph."""
    if not isinstance(error, _USERS) or isinstance(error, duckdb.IOException):
        return unreadable(database, error)
    reason = str(error)
    with suppress(ValueError, KeyError):
        reason = json.loads(reason[reason.index("{") :])["exception_message"]
    return QueryError(reason.splitlines()[0])


def open_store(path: str | Path, *, timeout: float | None = TIMEOUT, memory: int | None = None) -> Store:
    """Open a graph directory for reading; `~` in front of its path is the user's own folder.

    timeout: seconds that one of our own statements may take. memory: bytes that DuckDB, and an answer, may
    take; left out, a quarter of the machine, at most 4 GB.

    Raises StoreError: there is no graph at `path`, it is still being written, it is broken, or it was
    written by a newer or an older featgraph.
    """
    path = Path(path).expanduser()
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
    return Store(path, manifest, timeout, default_memory() if memory is None else memory)

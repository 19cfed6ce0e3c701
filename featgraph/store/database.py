"""The DuckDB file of a graph: opened in a lock-down to read or write, or made with tables and macros."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from featgraph.core.limits import default_memory
from featgraph.errors import StoreError
from featgraph.store.catalogue import check_catalogue, package_sql
from featgraph.store.layout import DATABASE, rebuild_hint

if TYPE_CHECKING:
    import pyarrow as pa

STORAGE_VERSION = "v1.5.0"
"""DuckDB storage of `graph.duckdb`, so that clients older than ours can read it too."""

Settings = dict[str, str | bool | int | float | list[str]]

_LOCKED_DOWN: Settings = {
    "python_enable_replacements": False,
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
    "allow_community_extensions": False,
    "max_temp_directory_size": "16GiB",
}


def connect(database: Path, memory: int | None = None) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB file read-only and lock its configuration; large sorts spill outside the graph directory.

    DuckDB's errors come as JSON, so that `query` can point at the place in the statement.
    memory: most bytes that DuckDB takes; left out, `limits.default_memory`.

    Raises StoreError: the file is not a DuckDB database, is damaged, or is held by a writer.
    """
    spill = Path(tempfile.gettempdir()) / f"featgraph-{os.getpid()}"
    try:
        return _locked_down(database, spill, memory, read_only=True)
    except duckdb.Error as error:
        raise unreadable(database, error) from error
    except RuntimeError as error:  # how DuckDB says that Ctrl-C was pressed
        raise KeyboardInterrupt from error


@contextmanager
def writing(
    database: Path, spill: Path, staged: "Mapping[str, pa.Table]", memory: int | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a DuckDB file for writing, in the lock-down in which it is read; it is `graph` in statements.

    spill: folder for what does not fit in memory. staged: tables that statements can read, by name.

    Raises StoreError: the database holds other things than featgraph makes. duckdb.Error: it cannot be read.
    """
    with plain_place(database) as place, _locked_down(place, spill, memory, read_only=False) as connection:
        check_catalogue(database.parent.parent, connection)
        for name, rows in staged.items():
            connection.register(name, rows)
        yield connection


def _locked_down(
    database: Path, spill: Path, memory: int | None, *, read_only: bool
) -> duckdb.DuckDBPyConnection:
    settings: Settings = {
        **_LOCKED_DOWN,
        "temp_directory": str(spill),
        "errors_as_json": read_only,  # for `query`, which points at the place
    }
    if "?" not in str(database.absolute()):
        settings["enable_external_access"] = False
    connection = duckdb.connect(str(database), read_only=read_only, config=settings)
    # Nothing else runs before all is shut. DuckDB looks for the log of a path with ? elsewhere, which it
    # would not be let; and a process has one memory limit for a file, that of who opened it first.
    with suppress(duckdb.InvalidInputException):  # it is open already, and locked
        connection.execute("set enable_external_access = false")
        connection.execute(f"set memory_limit = '{(memory or default_memory()) // 2**20}MiB'")
        connection.execute("set lock_configuration = true")
    shut = "select current_setting('enable_external_access'), current_setting('lock_configuration')"
    if connection.execute(shut).fetchall() != [(False, True)]:
        connection.close()
        raise duckdb.InvalidInputException("it is open without a lock-down, in this process")
    return connection


@contextmanager
def plain_place(file: Path) -> Iterator[Path]:
    """Yield where DuckDB can write a database that is to be, or is, at `file`; it is at `file` afterwards.

    DuckDB takes a `?` in a path for the beginning of parameters and puts its log somewhere else.
    """
    if "?" not in str(file.absolute()):
        yield file
        return
    with tempfile.TemporaryDirectory(prefix="featgraph-") as folder:
        place = Path(folder) / file.name
        if file.exists():
            shutil.move(file, place)
        try:
            yield place
        finally:
            if place.exists():
                shutil.move(place, file)


def create_database(path: Path) -> duckdb.DuckDBPyConnection:
    """Create `graph.duckdb` with its empty tables in a build directory and return the open connection."""
    connection = duckdb.connect(config={"memory_limit": f"{default_memory() // 2**20}MiB"})
    target = path / DATABASE
    place = target
    if "?" in str(target.absolute()):  # see `plain_place`
        place = Path(tempfile.mkdtemp(prefix="featgraph-")) / DATABASE
    connection.execute("set variable target = $target", {"target": str(target)})
    written = str(place).replace("'", "''")
    connection.execute(f"attach '{written}' as graph (storage_version '{STORAGE_VERSION}')")
    connection.execute("use graph")
    connection.execute(package_sql("schema.sql"))
    return connection


def fill_pairs(connection: duckdb.DuckDBPyConnection) -> None:
    """Fill `pair` from the edges, once the verbs are installed."""
    connection.execute("""
        insert into pair by name
        select p.sae[e.src // p.size + 1].number as src_sae, p.sae[e.dst // p.size + 1].number as dst_sae,
            e.kind, count(*) as n_edges
        from edge e, places() p
        group by all
        order by src_sae, dst_sae, e.kind
    """)


def finish_database(
    connection: duckdb.DuckDBPyConnection, crowded: Iterable[tuple[int, int, int]] = ()
) -> None:
    """Install the verbs as table macros, list the pairs of SAEs, write all to the file, and close it.

    crowded: of two SAEs, by number, how many pairs are as close as edges and none.
    """
    for macros in ("verbs.sql", "search.sql"):
        connection.execute(package_sql(macros))
    fill_pairs(connection)
    for src_sae, dst_sae, n in crowded:
        connection.execute(
            "update pair set n_crowded = ? where src_sae = ? and dst_sae = ?", [n, src_sae, dst_sae]
        )
    connection.execute("checkpoint graph")
    place = "select path, getvariable('target') from duckdb_databases() where database_name = 'graph'"
    ((made, target),) = connection.execute(place).fetchall()
    connection.close()
    if Path(made) != Path(target) and "?" in target:
        shutil.move(made, target)
        Path(made).parent.rmdir()


def unreadable(database: Path, error: duckdb.Error) -> StoreError:
    """Return the error that says why DuckDB cannot read a graph."""
    reason = str(error)
    with suppress(ValueError, KeyError):
        reason = json.loads(reason[reason.index("{") :])["exception_message"]
    if "different configuration" in reason:
        return StoreError(
            f"{database} is open in this process, by a DuckDB connection of its own; close that"
        )
    return StoreError(f"cannot read {database}: {reason.splitlines()[0]}; {rebuild_hint(database.parent)}")

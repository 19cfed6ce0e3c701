"""The DuckDB file of a graph: opened for reading in a lock-down, or made with its tables and macros."""

import json
import os
import tempfile
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import duckdb

from featgraph.errors import StoreError
from featgraph.store.layout import DATABASE, rebuild_hint

STORAGE_VERSION = "v1.5.0"
"""DuckDB storage of `graph.duckdb`, so that clients older than ours can read it too."""

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
        raise unreadable(database, error) from error


def create_database(path: Path) -> duckdb.DuckDBPyConnection:
    """Create `graph.duckdb` with its empty tables in a build directory and return the open connection."""
    connection = duckdb.connect()
    target = str(path / DATABASE).replace("'", "''")
    connection.execute(f"attach '{target}' as graph (storage_version '{STORAGE_VERSION}')")
    connection.execute("use graph")
    connection.execute(package_sql("schema.sql"))
    return connection


def fill_pairs(connection: duckdb.DuckDBPyConnection) -> None:
    """Fill `pair` from the edges, once the verbs are installed."""
    connection.execute("""
        insert into pair
        select p.sae[e.src // p.size + 1].number as src_sae, p.sae[e.dst // p.size + 1].number as dst_sae,
            e.kind, count(*) as n_edges
        from edge e, places() p
        group by all
        order by src_sae, dst_sae, e.kind
    """)


def finish_database(connection: duckdb.DuckDBPyConnection) -> None:
    """Install the verbs as table macros, list the pairs of SAEs, write all to the file, and close it."""
    for macros in ("verbs.sql", "search.sql"):
        connection.execute(package_sql(macros))
    fill_pairs(connection)
    connection.execute("checkpoint graph")
    connection.close()


def package_sql(name: str) -> str:
    """Return one of the package's SQL files."""
    return files("featgraph.store").joinpath("sql", name).read_text(encoding="utf-8")


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

"""Whether a graph's database holds what featgraph makes and nothing else.

The tables of a graph from somebody else could be views that read files, or have triggers or macros in place
of DuckDB's own functions. So a graph is not written to unless its catalogue is that of a fresh one.
"""

import re
from functools import cache
from importlib.resources import files
from pathlib import Path

import duckdb

from featgraph.errors import StoreError

SQL_FILES = ("schema.sql", "verbs.sql", "search.sql")
"""What makes a database: its tables, then the verbs as macros."""

_OBJECTS = """
    with here as (select current_database() as name)
    select 'table' as kind, table_name as name, sql as body
    from duckdb_tables() where database_name = (from here) and not internal
    union all
    select 'column', table_name || '.' || column_name,
        concat_ws(' ', data_type, is_nullable, column_default, is_generated)
    from duckdb_columns() where database_name = (from here) and not internal
    union all
    select 'view', view_name, sql from duckdb_views() where database_name = (from here) and not internal
    union all
    select 'macro', function_name, concat_ws(' ', function_type, parameters, macro_definition)
    from duckdb_functions() where database_name = (from here) and not internal
    union all
    select 'schema', schema_name, '' from duckdb_schemas()
    where database_name = (from here) and not internal
    union all
    select 'index', index_name, sql from duckdb_indexes() where database_name = (from here)
    union all
    select 'sequence', sequence_name, sql from duckdb_sequences() where database_name = (from here)
    union all
    select 'type', type_name, '' from duckdb_types() where database_name = (from here) and not internal
    union all
    select 'constraint', table_name, constraint_text
    from duckdb_constraints() where database_name = (from here)
    union all
    select 'trigger', trigger_name, sql from duckdb_triggers() where database_name = (from here)
"""

_VIEWS = "select view_name from duckdb_views() where database_name = current_database() and not internal"

_MACROS = """
    select distinct function_name from duckdb_functions()
    where database_name = current_database() and not internal order by all
"""

_NAMED = 3
"""Things that an error names; the others are counted."""

Catalogue = dict[tuple[str, str], str]
"""What there is, by kind and name."""


def package_sql(name: str) -> str:
    """Return one of the package's SQL files."""
    return files("featgraph.store").joinpath("sql", name).read_text(encoding="utf-8")


def differences(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return what a database has beside, instead of or without what a fresh one has, each named by its kind.

    Raises duckdb.Error: the catalogue cannot be read.
    """
    fresh, there = _fresh(), _catalogue(connection)
    odd = sorted(thing for thing in fresh.keys() | there.keys() if fresh.get(thing) != there.get(thing))
    tables = {name for kind, name in odd if kind in ("table", "view")}
    return [
        f"{kind} {name!r} is {_how(kind, name, fresh, there)}"
        for kind, name in odd
        if not (kind == "column" and name.rpartition(".")[0] in tables)
        and not (kind == "table" and ("view", name) in there)
    ]


def check_catalogue(path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    """Refuse to write to a database that holds other things than featgraph makes.

    Raises StoreError: it does; names the first of them. duckdb.Error: the catalogue cannot be read.
    """
    odd = differences(connection)
    if odd:
        more = f" and {len(odd) - _NAMED} more" if len(odd) > _NAMED else ""
        raise StoreError(
            f"{path} is not as featgraph writes a graph, so it is not written to: "
            f"{'; '.join(odd[:_NAMED])}{more}; build it again with `featgraph ingest RECIPE -o ANOTHER`"
        )


def check_readable(path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    """Refuse to read a graph that has views, or macros of other names than ours.

    What a view answers, and how long it takes, is anybody's guess. A macro takes the place of DuckDB's own
    function of that name, so `count(*)` could be any number.

    Raises StoreError: it has. duckdb.Error: the catalogue cannot be read.
    """
    for kind, statement, known in (("view", _VIEWS, frozenset()), ("macro", _MACROS, _macros())):
        strange = [name for (name,) in connection.execute(statement).fetchall() if name not in known]
        if strange:
            raise StoreError(f"{path} has a {kind} {strange[0]!r}, which no graph has; it is not read")


@cache
def _macros() -> frozenset[str]:
    """Return the names of the macros that a graph has."""
    text = "".join(package_sql(name) for name in SQL_FILES)
    return frozenset(re.findall(r"^create macro (\w+)", text, flags=re.MULTILINE))


@cache
def _fresh() -> Catalogue:
    with duckdb.connect(config={"errors_as_json": True}) as connection:
        for name in SQL_FILES:
            connection.execute(package_sql(name))
        return _catalogue(connection)


def _catalogue(connection: duckdb.DuckDBPyConnection) -> Catalogue:
    """Return what a database holds; letters' case is left out, since storage changes that of types."""
    rows = connection.execute(_OBJECTS).fetchall()
    return {(kind, name): str(body).lower() for kind, name, body in rows}


def _how(kind: str, name: str, fresh: Catalogue, there: Catalogue) -> str:
    if (kind, name) not in fresh:
        return "none of its own"
    return "missing" if (kind, name) not in there else "another than its own"

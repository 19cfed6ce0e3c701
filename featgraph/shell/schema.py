"""The answer of `.schema`: the tables of a graph, and the meaning of their columns."""

import re

from featgraph.core.result import Result
from featgraph.errors import UsageError, nearest
from featgraph.store import Store
from featgraph.store.catalogue import package_sql

_TABLES = """
    select t.table_name, t.estimated_size, list(c.column_name order by c.column_index)
    from duckdb_tables() t
    join duckdb_columns() c using (table_oid)
    where t.schema_name = 'main' and not t.internal
    group by all
    order by 1
"""

_COLUMNS = """
    select column_name, data_type
    from duckdb_columns()
    where schema_name = 'main' and not internal and table_name = $table
    order by column_index
"""


def tables(store: Store) -> Result:
    """Return one row per table."""
    return Result.of({"table": "VARCHAR", "n_rows": "BIGINT", "columns": "VARCHAR[]"}, store.rows(_TABLES))


def columns(store: Store, table: str) -> Result:
    """Return one row per column of a table, with what `schema.sql` says of it.

    Raises UsageError: there is no such table.
    """
    columns = store.rows(_COLUMNS, {"table": table.lower()})
    if not columns:
        known = [str(row[0]) for row in store.rows(_TABLES)]
        raise UsageError(f"no table {table!r}{nearest(table, known) or ';'} `.schema` lists all")
    about = _comments(table.lower())
    rows: list[tuple[object, ...]] = [(name, kind, about.get(name, "")) for name, kind in columns]
    return Result.of({"column": "VARCHAR", "type": "VARCHAR", "description": "VARCHAR"}, rows)


def _comments(table: str) -> dict[str, str]:
    """Return the comment behind each column of a table in `schema.sql`."""
    text = package_sql("schema.sql")
    body = re.search(rf"(?ms)^create table {re.escape(table)} \((.*?)^\);", text)
    comments = re.findall(r"(?m)^ +(\w+) [^-\n]*-- (.*(?:\n +-- .*)*)$", body[1]) if body else []
    return {column: re.sub(r"\n +-- ", " ", comment) for column, comment in comments}

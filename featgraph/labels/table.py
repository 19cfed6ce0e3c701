"""Labels from a table: CSV, TSV, JSON lines or Parquet with a key and a text per row."""

from pathlib import Path

import duckdb

from featgraph.core.text import pluralize
from featgraph.errors import SourceError, UsageError, nearest
from featgraph.labels.writing import Labelled, Labelling, labelling
from featgraph.store.features import find_feature

SOURCE = "csv"
"""Default source of labels from a table."""

_READERS = {
    ".csv": "read_csv(?, all_varchar := true, header := true)",
    ".tsv": "read_csv(?, all_varchar := true, header := true, delim := '\t')",
    ".jsonl": "read_json(?, format := 'newline_delimited')",
    ".ndjson": "read_json(?, format := 'newline_delimited')",
    ".json": "read_json(?)",
    ".parquet": "read_parquet(?)",
}

_PLACE = ("layer", "site", "idx")

_PARTS = "regexp_extract(key, '^([0-9]{1,9})/([a-z]+)/([0-9]{1,9})$', ['layer', 'site', 'idx'])"

_STAGE = f"""
    with part as (select {_PARTS} as k, source, text from given)
    insert into staged
    select s.first_id + p.k.idx::integer, p.source, p.text
    from part p
    join sae s on s.layer = try_cast(p.k.layer as integer) and s.site = p.k.site
        and try_cast(p.k.idx as integer) < s.n_features
    where p.text is not null
"""

_UNKNOWN = f"""
    with part as (select number, key, {_PARTS} as k from given)
    select number, key
    from part p
    where not exists (
        select 1 from sae s
        where s.layer = try_cast(p.k.layer as integer) and s.site = p.k.site
            and try_cast(p.k.idx as integer) < s.n_features
    )
    order by number
"""


def from_table(path: str | Path, file: str | Path, *, source: str | None = None) -> Labelled:
    """Label a graph from a file with columns `key` (or `layer`, `site`, `idx`), `text` and perhaps `source`.

    source: for rows that name none, by default `csv`.

    Raises SourceError: the file cannot be read, lacks a column, or has a key of no feature; nothing is
    written. UsageError: no such file or format. StoreError: the graph cannot be written.
    """
    file = Path(file)
    name = file.name.lower().removesuffix(".gz")
    reader = _READERS.get(Path(name).suffix)
    if reader is None:
        raise UsageError(f"{file} is not a table of labels; its name must end in {', '.join(_READERS)}")
    if not file.is_file():
        raise UsageError(f"there is no file {file}")
    with labelling(path) as work:
        n_empty = _read(work, file, reader, source or SOURCE)
        _check_keys(work, file)
        work.connection.execute(_STAGE)
        work.connection.execute("drop table given")
        added = work.commit(str(file))
    left_out = [f"{pluralize(n_empty, 'row')} of {file} without a text"] if n_empty else []
    return Labelled(added, left_out)


def _read(work: Labelling, file: Path, reader: str, source: str) -> int:
    """Load the rows into the table `given` as text; return the number of rows without text."""
    place = str(file)  # DuckDB reads the name of an existing file literally, not as a glob pattern.
    try:
        described = work.connection.execute(f"describe from {reader}", [place]).fetchall()
        columns = {str(row[0]).lower(): '"' + str(row[0]).replace('"', '""') + '"' for row in described}
        key = _key(columns, file)
        if "text" not in columns:
            raise SourceError(f"{file} has no column 'text'{_near('text', columns)}")
        named = f"nullif(trim({columns['source']}::varchar), '')" if "source" in columns else "null"
        work.connection.execute(
            f"""
            create table given as
            select row_number() over () as number, trim({key}) as key, coalesce({named}, ?) as source,
                nullif(trim({columns["text"]}::varchar), '') as text
            from {reader}
            """,
            [source, place],
        )
        counted = work.connection.execute("select count(*) from given where text is null").fetchone()
    except duckdb.Error as error:
        raise SourceError(f"cannot read {file}: {str(error).splitlines()[0]}") from error
    return int(counted[0]) if counted else 0


def _key(columns: dict[str, str], file: Path) -> str:
    """Return the SQL expression of a row's feature key."""
    if "key" in columns:
        return f"coalesce({columns['key']}::varchar, '')"
    missing = [name for name in _PLACE if name not in columns]
    if missing == list(_PLACE):
        raise SourceError(f"{file} has no column 'key', nor layer, site and idx{_near('key', columns)}")
    if missing:
        raise SourceError(f"{file} has no column {missing[0]!r}{_near(missing[0], columns)}")
    return "concat_ws('/', " + ", ".join(f"{columns[name]}::varchar" for name in _PLACE) + ")"


def _near(name: str, columns: dict[str, str]) -> str:
    return nearest(name, columns) or f"; it has {', '.join(columns)}"


def _check_keys(work: Labelling, file: Path) -> None:
    """Raise SourceError for the first key of no feature, with the nearest valid key."""
    unknown = work.connection.execute(_UNKNOWN)
    first = unknown.fetchone()
    if first is None:
        return
    others = sum(len(rows) for rows in iter(lambda: unknown.fetchmany(10_000), []))
    more = f" ({pluralize(others, 'more row')} like that)" if others else ""
    try:
        find_feature(work.store.saes, str(first[1]))
    except UsageError as error:
        raise SourceError(f"{file}, row {first[0]}: {error}{more}") from error
    raise SourceError(f"{file}, row {first[0]}: {first[1]!r} is not a feature of this graph{more}")

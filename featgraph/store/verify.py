"""Whether a graph is whole: every hash, count and rule that can be checked without its model."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import duckdb
import numpy as np

from featgraph.core.keys import SaeRange
from featgraph.core.result import Result
from featgraph.errors import FeatgraphError, StoreError
from featgraph.store import vectors
from featgraph.store.catalogue import differences, package_sql
from featgraph.store.layout import foreign_files
from featgraph.store.store import Store, open_store

_COLUMNS = {"check": "VARCHAR", "result": "VARCHAR", "detail": "VARCHAR"}

_PARTS = ("recipe", "model", "saes", "settings", "versions", "vectors", "steps", "started", "ended")
"""What the manifest of an ingest has beside its format version."""

_NAMED = 3
"""Cases that a detail names; the others are counted."""

_SAMPLE = 1000
"""Edges of each pair of SAEs whose cosine is computed again."""

_COSINE_ERROR = 2e-3
"""Between a stored cosine and that of the stored directions: more than any order of float32 sums makes."""

Finding = tuple[str, list[str], str]
"""A check, what breaks it, and what it says when nothing does."""


def verify(path: str | Path) -> Result:
    """Check a graph directory: manifest, files, database and vectors; one row per check.

    Columns: check, result (`ok` or `broken`), detail.

    Raises StoreError: there is no graph at `path`, or it is of another format.
    """
    with open_store(path, timeout=None) as opened:
        rows: list[tuple[object, ...]] = [
            (check, "broken" if broken else "ok", _detail(broken) if broken else detail)
            for check, broken, detail in _findings(opened)
        ]
    return Result.of(_COLUMNS, rows)


def is_whole(result: Result) -> bool:
    """Say whether every check of `verify` passed."""
    return all(row[1] == "ok" for row in result.rows)


def _detail(broken: list[str]) -> str:
    more = f" and {len(broken) - _NAMED:,} more" if len(broken) > _NAMED else ""
    return f"{', '.join(broken[:_NAMED])}{more}"


def _findings(store: Store) -> Iterator[Finding]:
    missing = [f"no {part}" for part in _PARTS if part not in store.manifest]
    yield "manifest", missing, f"format {store.manifest['format_version']}, {len(store.manifest)} parts"
    strange = foreign_files(store.path)
    yield "files", strange, "nothing that is not of a graph"
    try:
        connection = store.connection
        odd = differences(connection)
    except (StoreError, duckdb.Error) as error:
        yield "catalogue", [str(error)], ""
        return
    yield "catalogue", odd, "tables and macros are those of this format"
    yield _guarded("blocks", lambda: _unreadable(store), "every value can be read")
    for check, rule, statement in _rules():
        yield _guarded(check, partial(_cases, store, statement), rule)
    try:
        saes = store.saes
    except FeatgraphError:
        return
    yield "identities", _identities(store, saes), f"{len(saes)} SAEs as in the manifest"
    yield _guarded("vectors", lambda: _vectors(store, saes), f"{len(saes)} indexes of unit directions")
    yield _guarded(
        "directions", lambda: _cosines(store, saes), "cosines of edges are those of the directions"
    )


def _cases(store: Store, statement: str) -> list[str]:
    return [str(row[0]) for row in store.rows(statement)]


def _guarded(check: str, look: Callable[[], list[str]], detail: str) -> Finding:
    """Return what a check finds; that it cannot be made is a finding too."""
    try:
        return check, look(), detail
    except (FeatgraphError, duckdb.Error, OSError, RuntimeError) as error:
        return check, [str(error).splitlines()[0]], detail


def _rules() -> Iterator[tuple[str, str, str]]:
    """Yield name, rule and statement of each check of `verify.sql`."""
    for part in package_sql("verify.sql").split("\n\n-- ")[1:]:
        said, _, statement = part.partition("\n")
        check, _, rule = said.partition(": ")
        yield check, rule, statement.rstrip().rstrip(";")


def _unreadable(store: Store) -> list[str]:
    """Read every value of every table, which DuckDB holds against the check sums of its blocks."""
    broken = []
    for (table,) in store.rows("select table_name from duckdb_tables() where not internal order by all"):
        quoted = table.replace('"', '""')
        try:
            store.rows(f'select bit_xor(hash(t)) from main."{quoted}" t')
        except FeatgraphError as error:
            broken.append(f"{table}: {error}")
    return broken


def _identities(store: Store, saes: list[SaeRange]) -> list[str]:
    listed = store.manifest.get("saes", [])
    if len(listed) != len(saes):
        return [f"the manifest names {len(listed)} SAEs, the database {len(saes)}"]
    return [
        f"{sae.layer}/{sae.site} is {one['layer']}/{one['site']} in the manifest"
        for sae, one in zip(saes, listed, strict=True)
        if "layer" in one and "site" in one and (one["layer"], one["site"]) != (sae.layer, sae.site)
    ]


def _vectors(store: Store, saes: list[SaeRange]) -> list[str]:
    """Look through each index, and hold it against the hash in the manifest."""
    broken, named = [], store.part("vectors")
    for sae in saes:
        try:
            file = store.vectors(sae)
        except StoreError as error:
            broken.append(str(error))
        else:
            if file.name not in named:
                broken.append(f"{file.name} has no sha256 in the manifest")
    wanted = {f"{sae.site}.{sae.layer}.faiss" for sae in saes}
    return broken + [f"{name} is of no SAE of this graph" for name in named if name not in wanted]


def _cosines(store: Store, saes: list[SaeRange]) -> list[str]:
    """Compute the cosines of some edges of each pair of SAEs from the directions that are stored."""
    broken = []
    for src_sae, dst_sae in store.rows("select distinct src_sae, dst_sae from pair order by all"):
        up, down = saes[src_sae], saes[dst_sae]
        bounds = [up.first_id, up.first_id + up.n_features, down.first_id, down.first_id + down.n_features]
        statement = (
            "select src, dst, cosine from edge where src >= $a and src < $b and dst >= $c and dst < $d "
            f"order by hash(src, dst) limit {_SAMPLE}"
        )
        edges = store.rows(statement, dict(zip("abcd", bounds, strict=True)))
        if not edges:
            continue
        src, dst, stored = (np.array(column) for column in zip(*edges, strict=True))
        ends = (
            vectors.directions(store.vectors(up), (src - up.first_id).tolist()),
            vectors.directions(store.vectors(down), (dst - down.first_id).tolist()),
        )
        off = np.flatnonzero(~(np.abs(np.einsum("ij,ij->i", *ends) - stored) < _COSINE_ERROR))
        broken += [f"{up.key(src[n] - up.first_id)} -> {down.key(dst[n] - down.first_id)}" for n in off]
    return broken

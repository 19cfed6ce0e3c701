"""A store that holds a random graph in memory: filled anew for each example, without a file."""

from pathlib import Path

import duckdb

from featgraph import store as stores
from featgraph.store import Store
from helpers.oracle import Properties
from helpers.random_graphs import FeatureGraph

_SCHEMA = Path(stores.__file__).parent / "sql" / "schema.sql"


class Memory:
    """A database of its own with the tables of a graph in it, all empty."""

    def __init__(self) -> None:
        self.connection = duckdb.connect(config={"errors_as_json": True, "threads": 1})
        self.connection.execute(_SCHEMA.read_text(encoding="utf-8"))

    def __enter__(self) -> "Memory":
        return self

    def __exit__(self, *exception: object) -> None:
        self.connection.close()
        del self.connection


def store_of(memory: Memory, graph: FeatureGraph) -> Store:
    """Put the graph in place of the one in the database, and return a store that has seen no other."""
    sae_ranges = [(*sae, first) for sae, first in zip(graph.saes, graph.first_ids, strict=True)]
    saes = [
        {"number": sae, "layer": layer, "site": site, "first_id": first, "n_features": n, "d_in": 4}
        for sae, (layer, site, n, first) in enumerate(sae_ranges)
    ]
    ends = [(sae, n) for sae, (_, _, n, _) in enumerate(sae_ranges)]
    sae_of = [sae for sae, n in ends for _ in range(n)]
    pairs: dict[tuple[int, int, str], int] = {}
    for edge in graph.edges:
        pair = (sae_of[edge["src"]], sae_of[edge["dst"]], edge["kind"])
        pairs[pair] = pairs.get(pair, 0) + 1
    names = ("src_sae", "dst_sae", "kind", "n_edges")
    connection = memory.connection
    _fill(connection, "sae", saes)
    _fill(connection, "feature", graph.features)
    _fill(connection, "edge", graph.edges)
    _fill(connection, "pair", [dict(zip(names, (*pair, n), strict=True)) for pair, n in pairs.items()])
    store = Store(Path("memory.featgraph"), {})
    store.__dict__["connection"] = connection
    return store


def _fill(connection: duckdb.DuckDBPyConnection, table: str, rows: list[Properties]) -> None:
    connection.execute(f"truncate {table}")
    if rows:
        names = list(rows[0])
        columns = ", ".join(f"unnest(${place + 1})" for place in range(len(names)))
        values = [[row[name] for row in rows] for name in names]
        connection.execute(f"insert into {table} ({', '.join(names)}) select {columns}", values)

"""The programs that are timed side by side, each behind the same few questions.

A peer loads the edges of one graph as a competent user of it would, and answers with plain ids. A peer that
cannot raises UnavailableError, with the reason for the footnote.
"""

import importlib
from pathlib import Path
from typing import Any, Protocol

import duckdb
import numpy as np
from numpy.typing import NDArray

THRESHOLD = 0.5
"""The cosine from which an edge passes."""
HOPS = 5
"""The longest walk of `walks`."""
PATH_LAYERS = 10
"""How many layers apart the ends of `best_path` are."""

Columns = dict[str, NDArray[np.generic]]
Rows = list[tuple[Any, ...]]

PEERS = {
    "featgraph SQL": "with_featgraph:Sql",
    "featgraph in memory": "with_featgraph:Memory",
    "DuckDB by hand": "with_duckdb:ByHand",
    "networkx": "with_networkx:NetworkX",
    "rustworkx": "with_rustworkx:RustworkX",
    "ladybug": "with_ladybug:Ladybug",
}
"""Name in the table -> module and class here. The first is the one that the others are held against."""


class UnavailableError(Exception):
    """This peer has no answer, and why."""


class Peer(Protocol):
    """One program with one graph loaded; making it is what the table calls loading."""

    def __init__(self, graph: Path, scratch: Path) -> None:
        """Load a graph directory; `scratch` is an empty directory to work in."""

    def lineage(self, feature: int) -> list[int]:
        """Return everything up- and downstream of a feature over passing edges, with itself."""

    def splits(self) -> Rows:
        """Return (id, n): features that are the best parent of two or more passing children, and how many."""

    def children(self) -> Rows:
        """Return (id, children) of the same features: those children, in any order."""

    def best_path(self, first: int, last: int) -> list[int]:
        """Return the features on the path with the largest product of cosines, over edges of any cosine."""

    def walks(self, layer: int) -> tuple[int, int]:
        """Return how many walks of 1 to HOPS passing edges start in a layer, and the sum of their lengths."""

    def close(self) -> None:
        """Let go of files."""


def peer_class(name: str) -> type[Peer]:
    """Import what a peer is made with.

    Raises UnavailableError: its library is not installed.
    """
    module, attribute = PEERS[name].split(":")
    try:
        found: type[Peer] = getattr(importlib.import_module(f"peers.{module}"), attribute)
    except ModuleNotFoundError as error:
        raise UnavailableError(f"`pip install {error.name}` first") from error
    return found


def connect(graph: Path) -> duckdb.DuckDBPyConnection:
    """Open the tables of a graph for reading, with DuckDB's own settings but for its progress bar."""
    connection = duckdb.connect(str(graph / "graph.duckdb"), read_only=True)
    connection.execute("set enable_progress_bar = false")
    return connection


def read_edges(graph: Path, condition: str = "true") -> Columns:
    """Return src, dst, cosine, rank_in and cost (-ln cosine) of edges, for peers that load from memory."""
    with connect(graph) as connection:
        columns = "src, dst, cosine, rank_in, -ln(cosine::double) as cost"
        statement = f"select {columns} from edge where {condition} order by src, dst"
        found: Columns = connection.execute(statement).fetchnumpy()
        return found


def read_layers(graph: Path) -> list[range]:
    """Return the ids of each layer's features."""
    with connect(graph) as connection:
        rows = connection.execute("select first_id, n_features from sae order by layer").fetchall()
        return [range(first, first + n) for first, n in rows]

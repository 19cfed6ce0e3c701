"""The programs that are timed side by side, each behind the same few questions about residual features.

A peer loads the edges of one graph as a competent user of it would, and answers with plain ids. A peer that
cannot raises UnavailableError, with the reason for the footnote.
"""

import importlib
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
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
"""How many layers apart the ends of `best_path` are, where there are so many."""
START_LAYER = 8
"""Where walks and best paths start, where paths from there are long enough."""

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


@dataclass(frozen=True)
class Shape:
    """What the questions need to know of a graph."""

    layers: dict[int, range]
    """The ids of the residual features of each layer, in the order of the model."""
    n_features: int
    """Of all sites; every id is below."""
    writers: bool
    """Whether there are other edges than those between residual features."""

    @property
    def residual(self) -> str:
        """What to add to a condition on `edge e`, so that only edges between residual features are left."""
        return " and e.kind = 'res_res'" if self.writers else ""

    @property
    def hops(self) -> int:
        """How many layers apart the ends of `best_path` are."""
        return min(PATH_LAYERS, len(self.layers) - 1)

    @property
    def start(self) -> int:
        """The layer where walks and best paths start."""
        return list(self.layers)[min(START_LAYER, len(self.layers) - 1 - self.hops)]

    @property
    def middle(self) -> int:
        """The layer of the features whose lineages are asked for."""
        return list(self.layers)[len(self.layers) // 2]

    @cached_property
    def _starts(self) -> tuple[list[int], list[str]]:
        return [ids.start for ids in self.layers.values()], [f"{layer}/res/" for layer in self.layers]

    def key(self, feature: int) -> str:
        """Return the key of a residual feature."""
        starts, prefixes = self._starts
        place = bisect_right(starts, feature) - 1
        return f"{prefixes[place]}{feature - starts[place]}"

    def feature(self, key: str) -> int:
        """Return the id of a residual feature."""
        layer, _, idx = key.split("/")
        return self.layers[int(layer)].start + int(idx)


class UnavailableError(Exception):
    """This peer has no answer, and why."""


class Peer(Protocol):
    """One program with one graph loaded; making it is what the table calls loading."""

    def __init__(self, graph: Path, shape: Shape, scratch: Path) -> None:
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
    """Open the tables of a graph for reading, with DuckDB's own settings but for its progress threshold."""
    connection = duckdb.connect(str(graph / "graph.duckdb"), read_only=True)
    connection.execute("set enable_progress_bar = false")
    return connection


def select_edges(shape: Shape, least: str) -> str:
    """Return the SQL of src, dst, cosine, rank_in and cost (-ln cosine) of the residual edges.

    least: what cosines must be. A cosine that was rounded to more than 1 costs nothing.
    """
    columns = "src, dst, cosine, rank_in, greatest(-ln(cosine::double), 0) as cost"
    return f"select {columns} from edge e where cosine {least}{shape.residual} order by src, dst"


def read_edges(graph: Path, shape: Shape, least: str = "> 0") -> Columns:
    """Return the columns of `select_edges`, for peers that load from memory."""
    with connect(graph) as connection:
        found: Columns = connection.execute(select_edges(shape, least)).fetchnumpy()
        return found


def read_shape(graph: Path) -> Shape:
    """Return what the questions need to know of a graph."""
    with connect(graph) as connection:
        statement = "select layer, site, first_id, n_features from sae order by number"
        saes = connection.execute(statement).fetchall()
    layers = {layer: range(first, first + n) for layer, site, first, n in saes if site == "res"}
    return Shape(layers, sum(n for *_, n in saes), any(site != "res" for _, site, *_ in saes))

"""When a graph's edges are read into memory: once somebody has asked a few questions that follow edges.

One question is answered by SQL sooner than the edges are read; from the third on memory wins, with the same
rows. This file keeps the count; `adjacency` holds the edges. Timings: tests/bench/README.md.
"""

from threading import Lock
from typing import TYPE_CHECKING

from featgraph.store import Store

if TYPE_CHECKING:
    from featgraph.lineage.adjacency import Adjacency

FROM_QUESTION = 3
"""The question from which edges are read into memory. Our choice: at 13 million edges reading takes 1.6 s, as
long as some fifty lineages by SQL, which who has asked three is likely to come to."""

MOST_EDGES = 20_000_000
"""Edges up to which this happens by itself, 320 MB. Our choice; `Graph.adjacency` reads any number."""


class EdgeQuestions:
    """How many questions one store was asked that follow edges, and its edges once they are in memory."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.count = 0
        self.adjacency: Adjacency | None = None
        self._lock = Lock()

    def read(self) -> "Adjacency":
        """Return the edges in memory; the first call reads them."""
        from featgraph.lineage.adjacency import Adjacency

        with self._lock:
            if self.adjacency is None:
                self.adjacency = Adjacency.read(self.store)
            return self.adjacency

    def next(self) -> "Adjacency | None":
        """Count one more question; return the edges in memory if they should answer it."""
        self.count += 1
        if self.adjacency is not None:
            return self.adjacency
        # While another thread reads them, SQL answers.
        if self.count < FROM_QUESTION or self._lock.locked() or self._n_edges() > MOST_EDGES:
            return None
        return self.read()

    def _n_edges(self) -> int:
        return int(self.store.rows("select coalesce(sum(n_edges), 0) from pair")[0][0])


def adjacency(store: Store) -> "Adjacency":
    """Return the edges of a graph in memory; the first call reads them.

    Raises StoreError: the database is damaged.
    """
    return store.cached(EdgeQuestions).read()


def adjacency_if_repeated(store: Store) -> "Adjacency | None":
    """Return the edges in memory if they are there, or if this is the third question or a later one."""
    return store.cached(EdgeQuestions).next()

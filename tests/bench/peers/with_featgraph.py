"""featgraph as a user of its Python interface asks it: by statements, and by adjacency in memory."""

from pathlib import Path
from typing import Any

import featgraph
from peers import HOPS, THRESHOLD, Rows, Shape, UnavailableError

NO_VERB = "adjacency in memory answers lineages, best paths and components"


class Sql:
    """A graph that was opened once; each question is a statement that names edges where there are others."""

    def __init__(self, graph: Path, shape: Shape, scratch: Path) -> None:
        del scratch
        self.graph = featgraph.open(graph)
        self.graph.store.connection  # noqa: B018 (opened at its first use otherwise)
        self.key = shape.key
        self.edge = "e:res_res" if shape.writers else "e"
        self.bare = ", writers => false" if shape.writers else ""

    def _rows(self, statement: str, parameters: dict[str, object] | None = None) -> Rows:
        return self.graph.sql(statement, parameters).rows

    def lineage(self, feature: int) -> list[int]:
        statement = f"select id from lineage($f, min => {THRESHOLD}{self.bare})"
        return [row[0] for row in self._rows(statement, {"f": self.key(feature)})]

    def splits(self) -> Rows:
        return self._rows(f"select id, n from splits(min => {THRESHOLD})")

    def children(self) -> Rows:
        """Return what the others do, but children by key and best first: that is what the verb has."""
        return self._rows(f"select id, members from splits(min => {THRESHOLD})")

    def best_path(self, first: int, last: int) -> list[int]:
        ends: dict[str, object] = {"first": self.key(first), "last": self.key(last)}
        statement = f"match best p = (a $first)-[{self.edge}]->+(b $last) return nodes(p)"
        return list(self._rows(statement, ends)[0][0])

    def walks(self, layer: int) -> tuple[int, int]:
        pattern = f"(a:res {{layer: {layer}}})-[{self.edge} where e.cosine >= {THRESHOLD}]->{{1,{HOPS}}}(b)"
        count, total = self._rows(f"match p = {pattern} return count(*), sum(path_length(p))")[0]
        return int(count), int(total or 0)

    def close(self) -> None:
        self.graph.close()


class Memory(Sql):
    """The same graph with its edges read into memory, and the verbs that it answers from there."""

    def __init__(self, graph: Path, shape: Shape, scratch: Path) -> None:
        super().__init__(graph, shape, scratch)
        self.adjacency = self.graph.adjacency

    def lineage(self, feature: int) -> list[int]:
        found: Rows = self.adjacency.lineage(self.key(feature), min=THRESHOLD, writers=not self.bare).rows
        return [row[0] for row in found]

    def splits(self) -> Rows:
        raise UnavailableError(NO_VERB)

    def children(self) -> Rows:
        raise UnavailableError(NO_VERB)

    def best_path(self, first: int, last: int) -> list[int]:
        found = self.adjacency.paths(self.key(first), self.key(last), min=0)
        best: dict[str, Any] = found.dicts()[0]
        return list(best["nodes"])

    def walks(self, layer: int) -> tuple[int, int]:
        raise UnavailableError(NO_VERB)

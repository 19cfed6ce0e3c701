"""ladybug, the maintained fork of kuzu: an embedded graph database that speaks Cypher."""

import importlib
from pathlib import Path
from typing import Any

from peers import HOPS, THRESHOLD, Rows, Shape, connect, select_edges

ladybug: Any = importlib.import_module("ladybug")

TABLES = (
    "create node table Feature(id int32 primary key, layer int32)",
    "create rel table Edge(from Feature to Feature, cosine float, rank_in int16, cost double)",
)
SPLITTING = f"match (a:Feature)-[e:Edge]->(b:Feature) where e.cosine >= {THRESHOLD} and e.rank_in = 1"


class Ladybug:
    """A database in files of its own, filled by COPY from Parquet.

    Breadth-first search (`SHORTEST`) reaches each feature of a lineage once; a plain pattern would follow
    every path. Weighted shortest paths are told how many layers apart their ends are.
    """

    def __init__(self, graph: Path, shape: Shape, scratch: Path) -> None:
        features, edges = _export(graph, shape, scratch)
        self.database = ladybug.Database(str(scratch / "graph.lbug"))
        self.connection = ladybug.Connection(self.database)
        for statement in TABLES:
            self.connection.execute(statement)
        self.connection.execute(f"copy Feature from '{features}'")
        self.connection.execute(f"copy Edge from '{edges}'")
        passing = f"* shortest 1..{len(shape.layers)} (e, n | where e.cosine >= {THRESHOLD})"
        self.path_statement = (
            f"match p = (a:Feature {{id: $first}})-[:Edge* wshortest(cost) 1..{shape.hops}]->"
            "(b:Feature {id: $last}) return properties(nodes(p), 'id')"
        )
        self.lineage_statement = (
            f"match (a:Feature {{id: $f}})-[:Edge{passing}]->(b:Feature) return b.id "
            f"union all match (a:Feature {{id: $f}})<-[:Edge{passing}]-(b:Feature) return b.id"
        )

    def _rows(self, statement: str, parameters: dict[str, int] | None = None) -> Rows:
        rows: Rows = self.connection.execute(statement, parameters).get_all()
        return rows

    def lineage(self, feature: int) -> list[int]:
        return [feature, *(row[0] for row in self._rows(self.lineage_statement, {"f": feature}))]

    def splits(self) -> Rows:
        return self._rows(f"{SPLITTING} with a.id as id, count(*) as n where n >= 2 return id, n")

    def children(self) -> Rows:
        return self._rows(
            f"{SPLITTING} with a.id as id, collect(b.id) as members where size(members) >= 2 "
            "return id, members"
        )

    def best_path(self, first: int, last: int) -> list[int]:
        return list(self._rows(self.path_statement, {"first": first, "last": last})[0][0])

    def walks(self, layer: int) -> tuple[int, int]:
        found = self._rows(
            f"match p = (a:Feature)-[:Edge*1..{HOPS} (e, n | where e.cosine >= {THRESHOLD} | {{}}, {{}})]->"
            "(b:Feature) where a.layer = $layer return count(*), sum(length(p))",
            {"layer": layer},
        )
        return int(found[0][0]), int(found[0][1] or 0)

    def close(self) -> None:
        self.connection.close()
        self.database.close()


def _export(graph: Path, shape: Shape, scratch: Path) -> tuple[Path, Path]:
    """Write what ladybug copies; a second or two of its load on the largest graph."""
    features, edges = scratch / "feature.parquet", scratch / "edge.parquet"
    with connect(graph) as connection:
        residual = "select id, layer from feature where site = 'res' order by id"
        connection.execute(f"copy ({residual}) to '{features}'")
        connection.execute(f"copy ({select_edges(shape, '> 0')}) to '{edges}'")
    return features, edges

"""What the peers are asked on one graph: the same cases for all, chosen by DuckDB alone."""

import random
from pathlib import Path

import duckdb
from peers import Shape
from peers.with_duckdb import ByHand

Arguments = tuple[int, ...]

MEMBERS = range(20, 161)
"""Sizes of lineages that are asked for: small enough to read, large enough to need searching."""
N_LINEAGES = 10
N_PATHS = 5
TRIED = 2000
"""Look at so many features for lineages of such sizes, then take the nearest."""


def cases(graph: Path, shape: Shape) -> dict[str, list[Arguments]]:
    """Return the arguments of each question, per method of a peer; none where the graph has no such case."""
    by_hand = ByHand(graph, shape, graph)
    try:
        return {
            "lineage": _features(by_hand, shape.layers[shape.middle]),
            "splits": [()],
            "children": [()],
            "best_path": _pairs(by_hand.connection, shape),
            "walks": [(shape.start,)],
        }
    finally:
        by_hand.close()


def _features(by_hand: ByHand, layer: range) -> list[Arguments]:
    """Return the first features of a layer whose lineage has a size in MEMBERS, or is nearest to that."""
    beyond: dict[int, int] = {}
    for feature in layer[:TRIED]:
        size = len(by_hand.lineage(feature))
        beyond[feature] = max(MEMBERS.start - size, size - MEMBERS.stop + 1, 0)
        if list(beyond.values()).count(0) == N_LINEAGES:
            break
    nearest = sorted(beyond, key=beyond.__getitem__)[:N_LINEAGES]
    return [(feature,) for feature in nearest]


def _pairs(connection: duckdb.DuckDBPyConnection, shape: Shape) -> list[Arguments]:
    """Return features of one layer, each with a random one that lies `shape.hops` layers on, on some path."""
    found: list[Arguments] = []
    chance = random.Random(0)
    known = f"src in (select unnest($reached)) and cosine > 0{shape.residual}"
    statement = f"select distinct dst from edge e where {known} order by dst"
    for feature in shape.layers[shape.start] if shape.hops else ():
        reached = [feature]
        for _ in range(shape.hops):
            reached = [row[0] for row in connection.execute(statement, {"reached": reached}).fetchall()]
        if reached:
            found.append((feature, chance.choice(reached)))
        if len(found) == N_PATHS:
            break
    return found
